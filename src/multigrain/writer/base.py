"""The weights that a writer is tuned from: a folder, a hub id, or a GGUF file that transformers can dequantise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from multigrain.config import Config
from multigrain.errors import ModelError
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.storage.files import atomic_directory

_WANTED = "give the original weights: --base OWNER/NAME of the hub, or a folder with config.json and safetensors"


def default_base(config: Config) -> str:
    """The run's own writer where it runs in this process; else the embedded one."""
    return config.llm.model if config.llm.provider == "local" else "auto"


def is_gguf(reference: str) -> bool:
    """Whether a base is a GGUF file, by its reference."""
    return reference == "auto" or reference.startswith("package:") or reference.lower().endswith(".gguf")


def load_writer(reference: str) -> tuple[Any, Any]:
    """A causal language model in float32 with its tokenizer.

    A GGUF file is dequantised: its weights are those of the quantised model, not of the original. That costs what the
    quantisation cost, once.

    Args:
        reference: a folder, a hub id, a .gguf path, `package:NAME`, or auto.

    Raises:
        MissingExtraError: a `package:` named here is not installed.
        ModelError: it cannot be loaded; the message says what to give.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {}
    name = reference
    if is_gguf(reference):
        file = GgufFile.find(reference).path
        name, place = str(file.parent), {"gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **place)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **place)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        kind = "transformers cannot dequantise this GGUF file" if place else "it cannot be loaded as a language model"
        raise ModelError(f"--base {reference}: {kind} ({reason}); {_WANTED}") from None
    if not tokenizer.chat_template:
        raise ModelError(
            f"--base {reference}: it has no chat template, so it answers no requests; take an instruct model"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def save_writer(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model as a folder of safetensors, whole or not at all."""
    from transformers import AutoModelForCausalLM

    if getattr(model, "hf_quantizer", None) is not None or getattr(model.config, "quantization_config", None):
        # What was read from a GGUF file still counts as quantised and refuses to be saved: the weights go into a model
        # that was built from the same config.
        state = model.state_dict()
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        model.load_state_dict(state)
    with atomic_directory(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
