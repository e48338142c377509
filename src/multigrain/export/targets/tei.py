"""A folder that Hugging Face's text-embeddings-inference serves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Final

from sentence_transformers import SentenceTransformer

from multigrain.errors import ExportError
from multigrain.export.job import Exported, ExportJob
from multigrain.export.servers import DECODERS, Server, attends_both_ways, export_for, weights_dtype

_IMAGE: Final = "ghcr.io/huggingface/text-embeddings-inference"
_CUDA_HALF: Final = frozenset({"LlamaModel", "MistralModel", "Qwen2Model"})
"""Run on CUDA in float16 alone, with flash attention (backends/candle/src/lib.rs)."""
_GEMMA: Final = "Gemma3TextModel"


def _command(job: ExportJob, model: SentenceTransformer) -> str:
    dtype = weights_dtype(model)
    # Its CPU image computes in float32 only, its CUDA image not in bfloat16.
    on_cpu = dtype == "float32" and _architecture(model) not in _CUDA_HALF
    image, options = (f"{_IMAGE}:cpu-1.9", "") if on_cpu else (f"{_IMAGE}:cuda-1.9", "--gpus all ")
    served = "float32" if on_cpu else "float16"
    place = shlex.quote(f"{job.destination.absolute()}:/model")
    return f"docker run {options}-p 8080:80 -v {place} {image} --model-id /model --dtype {served} --auto-truncate"


def _settings(model: SentenceTransformer) -> dict[str, Any]:
    """Keys that it reads where transformers 5 writes others (backends/candle/src/models).

    The base of rotary positions stands at the top, as before transformers 5: 1.9.0 knows no `rope_parameters`, and of
    Gemma 3 no version does. Attention both ways has a name of its own, but for Qwen2 and Gemma 3.
    """
    architecture, config = _architecture(model), _config(model)
    if architecture not in DECODERS:
        return {}
    settings = _rotary(config)
    if architecture == "Qwen2Model":
        settings["is_causal"] = not attends_both_ways(config)
    elif architecture != _GEMMA:
        settings["use_bidirectional_attention"] = attends_both_ways(config)
    return settings


def _rotary(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = rope.values() if "full_attention" in rope else [rope]
    other = next((kind["rope_type"] for kind in kinds if kind.get("rope_type", "default") != "default"), None)
    if other is not None:
        raise ExportError(
            f"text-embeddings-inference leaves out the scaling of positions (rope_type {other}); use --to vllm"
        )
    if "full_attention" in rope:
        bases = {"rope_theta": "full_attention", "rope_local_base_freq": "sliding_attention"}
        return {key: rope[kind]["rope_theta"] for key, kind in bases.items() if kind in rope}
    return {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}


def _notes(model: SentenceTransformer) -> list[str]:
    architecture, notes = _architecture(model), []
    if architecture in _CUDA_HALF:
        notes.append(
            f"it runs {architecture} on CUDA alone, in float16: `multigrain verify --tolerance 0.01` compares it"
        )
    if architecture == _GEMMA and not attends_both_ways(_config(model)):
        notes.append("versions up to 1.9.3 let Gemma 3 attend both ways, whatever the folder says: use a later one")
    return notes


def _architecture(model: SentenceTransformer) -> str:
    return type(model.transformers_model).__name__


def _config(model: SentenceTransformer) -> Any:
    return getattr(model.transformers_model, "config", None)


_TEI: Final = Server(
    "text-embeddings-inference",
    frozenset({"BertModel", "CamembertModel", "DistilBertModel", "MPNetModel", "ModernBertModel", "NomicBertModel"})
    | frozenset({"RobertaModel", "XLMRobertaModel"})
    | DECODERS,
    DECODERS,
    _command,
    _settings,
    _notes,
)


def export(job: ExportJob, folder: Path) -> Exported:
    """Write a folder for Hugging Face's text-embeddings-inference.

    Raises:
        ExportError: the model needs something that it cannot compute.
    """
    return export_for(_TEI, job, folder)
