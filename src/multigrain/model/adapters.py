"""Low-rank adapters (LoRA, and QLoRA over a 4-bit base), by peft."""

from __future__ import annotations

import re
import tempfile
from importlib.util import find_spec
from typing import Any, Final

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import nn

from multigrain.config import LoraConfig, QuantizeName, TrainingConfig
from multigrain.display.install import install_line
from multigrain.errors import MissingExtraError, ModelError
from multigrain.model.attention.direction import set_attention

# Names that transformers gives to the projections of attention and feed-forward, by architecture.
_PROJECTIONS: Final = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),  # Llama, Mistral, Qwen, Gemma
    *("qkv_proj", "gate_up_proj"),  # Phi-3
    *("query", "key", "value", "dense"),  # BERT, RoBERTa, XLM-R
    *("Wqkv", "Wo", "Wi"),  # ModernBERT
    *("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),  # DistilBERT
    *("q", "k", "v", "o"),  # MPNet, T5
)


def quantization(kind: QuantizeName) -> Any:
    """What transformers is told to hold a base in 4 bits; None where it is not asked for.

    Raises:
        ModelError: there is no CUDA GPU.
        MissingExtraError: bitsandbytes is not installed.
    """
    if kind == "none":
        return None
    if not torch.cuda.is_available():
        raise ModelError(
            "training.quantize: 4bit needs a CUDA GPU, and there is none here: use quantize: none (LoRA alone needs "
            "2 bytes a weight in bf16)"
        )
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "training.quantize: 4bit", "pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def require_peft() -> None:
    """See that adapters can be had.

    Raises:
        MissingExtraError: peft is not installed.
    """
    if find_spec("peft") is None:
        raise MissingExtraError("peft", "training.lora", install_line("lora"))


def add_adapters(model: SentenceTransformer | CrossEncoder, settings: LoraConfig, *, seed: int = 0) -> None:
    """Put fresh adapters into a model's transformer, in place. Only they will be trained.

    A reranker's head, which is new more often than not, has no adapters and is trained in full.

    Args:
        model: the base.
        settings: size and place of the adapters.
        seed: of their first, random half; the other half is zero, so that they add nothing yet.

    Raises:
        MissingExtraError: peft is not installed.
        ModelError: the model is no transformer, has adapters already, or has no layer of the names given.
    """
    require_peft()
    from peft import LoraConfig as PeftLoraConfig

    transformer = model[0]
    if not isinstance(transformer, Transformer):
        raise ModelError(f"lora needs a transformer; {type(transformer).__name__} has no layers to adapt")
    if has_adapters(model):
        raise ModelError("lora: the base model comes with adapters already; merge them into it first")
    backbone: Any = transformer.model
    head, whole = _head(backbone) if isinstance(model, CrossEncoder) else ([], [])
    # BERT's pooler takes no part in an embedding: adapters there would never get a gradient.
    without = [
        *head,
        *(["pooler"] if hasattr(getattr(backbone, backbone.base_model_prefix, backbone), "pooler") else []),
    ]
    adapter = PeftLoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=[name for name in _targets(backbone, settings.targets) if name not in head],
        exclude_modules=rf"(.*\.)?({'|'.join(map(re.escape, without))})(\..*)?" if without else None,
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone.add_adapter(adapter)
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # they learn in float32, whatever the base is held in
    for part in whole:
        part.requires_grad_(True)


def _head(backbone: Any) -> tuple[list[str], list[nn.Module]]:
    """What of a model for pairs stands behind its transformer: its names, and the modules that are trained in full.

    A language model's head is its vocabulary, which stays.
    """
    inner = getattr(backbone, backbone.base_model_prefix, None)
    behind = {name: part for name, part in backbone.named_children() if part is not inner}
    if backbone.get_output_embeddings() is not None:
        return list(behind), []
    pooler = getattr(inner, "pooler", None)
    return list(behind), [*behind.values(), *([pooler] if isinstance(pooler, nn.Module) else [])]


def has_adapters(model: SentenceTransformer | CrossEncoder) -> bool:
    """Whether the model's transformer holds adapters."""
    return bool(getattr(model.transformers_model, "_hf_peft_config_loaded", False))


def merge_adapters(model: SentenceTransformer | CrossEncoder) -> None:
    """Add the adapters to the weights beside them, in place; without adapters, nothing is done.

    Raises:
        ModelError: the base is quantized, where merging would lose what was learnt to rounding.
    """
    if not has_adapters(model):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    backbone: Any = model.transformers_model
    if getattr(backbone, "is_quantized", False):
        raise ModelError("adapters over a 4-bit base cannot be merged without loss: use training.adapters: apart")
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, layer.get_base_layer())
    del backbone.peft_config
    backbone._hf_peft_config_loaded = False
    # Where adapters were loaded, transformers would save the weights under adapters' names, and find none at load.
    conversions = getattr(backbone, "_weight_conversions", None) or []
    patterns = [
        name for conversion in conversions for name in (*conversion.source_patterns, *conversion.target_patterns)
    ]
    if any("base_model" in str(name) for name in patterns):
        backbone._weight_conversions = None
    for parameter in backbone.parameters():
        parameter.requires_grad_(True)


def merged_over_unquantized(model: SentenceTransformer, settings: TrainingConfig) -> SentenceTransformer:
    """Merge adapters that were tuned over a quantized base into the base as it was published.

    Args:
        model: the tuned model; only its adapters are taken.
        settings: what it was built with.
    """
    from multigrain.model.loading import load_any

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, create_model_card=False)
        whole = load_any(folder, device="cpu", trust_remote_code=settings.trust_remote_code)
    # Adapters are saved without the base's config, where attention's direction is kept.
    set_attention(whole, settings.attention)
    merge_adapters(whole)
    return whole


def _targets(model: nn.Module, targets: str | list[str]) -> list[str]:
    linear = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    if targets == "all-linear":
        return sorted(linear)
    names = list(_PROJECTIONS) if targets == "auto" else list(targets)
    present = [name for name in names if name in linear]
    missing = [name for name in names if name not in linear] if targets != "auto" else []
    if missing or not present:
        raise ModelError(
            f"lora.targets: {type(model).__name__} has no linear layer named {', '.join(missing or names[:4])}; "
            f"it has {', '.join(sorted(linear)) or 'none'}"
        )
    return present
