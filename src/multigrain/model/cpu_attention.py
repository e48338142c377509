"""Attention that learns faster on a CPU, for as long as a model is tuned there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from multigrain.model.attention import ATTENTION_NAME

__all__ = ["quick_attention"]

_SDPA = "sdpa"


@contextmanager
def quick_attention(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Let a model's attention choose the type in which a CPU computes it faster; at the end it is SDPA again.

    Models whose attention is read (ATA pooling) have that attention anyway; those with other attention keep it.

    Args:
        model: what is tuned.
        wanted: whether it is tuned on a CPU in bfloat16; nothing is changed otherwise.
    """
    whole = [module for module in model.modules() if isinstance(module, PreTrainedModel)] if wanted else []
    changed = [each for each in whole if each.config._attn_implementation == _SDPA]
    for each in changed:
        each.set_attn_implementation(ATTENTION_NAME)
    try:
        yield
    finally:
        for each in changed:
            each.set_attn_implementation(_SDPA)
