"""Rotary positions of decoders as llama.cpp reads them: plain, stretched (linear, YaRN), or by factors (Llama 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from multigrain.errors import ExportError

# A GGUFWriter has no types.
Writer = Any

_BY_FACTORS: Final = "llama"
"""The architecture of llama.cpp that reads factors of frequencies."""


def write_positions(writer: Writer, model: nn.Module) -> None:
    """Write the keys of a decoder's rotary positions.

    Raises:
        ExportError: llama.cpp does not compute positions of their type in this architecture.
    """
    config: Any = model.config
    parameters = config.rope_parameters
    kind = parameters.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(_gguf().RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(parameters["factor"])
    elif kind == "yarn":
        _write_yarn(writer, parameters, config)
    elif kind == "llama3" and writer.arch == _BY_FACTORS:
        writer.add_tensor("rope_freqs.weight", _factors(model, parameters["rope_theta"]).numpy())
    elif kind != "default":
        raise ExportError(f"GGUF: llama.cpp has no positions of type {kind!r} here; --to onnx keeps them")
    writer.add_rope_freq_base(parameters["rope_theta"])


def _write_yarn(writer: Writer, parameters: Mapping[str, Any], config: Any) -> None:
    if not parameters.get("truncate", True):
        raise ExportError("GGUF: llama.cpp rounds YaRN's limits, and this model does not; --to onnx keeps them")
    factor = parameters["factor"]
    writer.add_rope_scaling_type(_gguf().RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    original = parameters.get("original_max_position_embeddings") or config.max_position_embeddings
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_yarn_beta_fast(parameters.get("beta_fast") or 32.0)
    writer.add_rope_scaling_yarn_beta_slow(parameters.get("beta_slow") or 1.0)
    # llama.cpp multiplies queries and keys with its own factor, and with this one.
    wanted = _yarn_scale(parameters)
    if wanted is not None:
        writer.add_rope_scaling_attn_factors(wanted / _mscale(factor))


def _yarn_scale(parameters: Mapping[str, Any]) -> float | None:
    """What transformers multiplies queries and keys with; None for the method's own factor."""
    if parameters.get("attention_factor") is not None:
        return float(parameters["attention_factor"])
    scale, of_all = parameters.get("mscale"), parameters.get("mscale_all_dim")
    if scale and of_all:
        return _mscale(parameters["factor"], scale) / _mscale(parameters["factor"], of_all)
    return None


def _mscale(factor: float, scale: float = 1.0) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _factors(model: Any, theta: float) -> torch.Tensor:
    """What each of a head's frequencies is divided by."""
    found: torch.Tensor = model.rotary_emb.inv_freq.detach().cpu().double()
    plain = theta ** -(torch.arange(len(found), dtype=torch.float64) / len(found))
    return (plain / found).float()


def _gguf() -> Any:
    import gguf

    return gguf
