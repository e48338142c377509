"""The observable attention with FlashAttention-2 in every layer, for models that were loaded with it.

Registered under a name without "flash" in it: transformers treats every such name as a kernel of that family and would
look for it on the hub. The mask function is FlashAttention's, so layers get the padding as (batch, tokens) or nothing,
and what a query may see is rebuilt here for the one layer that is read.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import get_target_dtype
from transformers.masking_utils import flash_attention_mask
from transformers.modeling_flash_attention_utils import _flash_attention_forward, flash_attn_supports_top_left_mask

from multigrain.errors import ModelError
from multigrain.model.attention.received import Scores
from multigrain.model.attention.sdpa import OBSERVER_ARGUMENT, AttentionObserver

FLASH_NAME: Final = "multigrain_fa2"
FLASH_IMPLEMENTATION: Final = "flash_attention_2"


def _observed_flash(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """FlashAttention-2; shapes (batch, heads, tokens, head size) in, (batch, tokens, heads, head size) out."""
    observer: AttentionObserver | None = kwargs.pop(OBSERVER_ARGUMENT, None)
    if kwargs.get("s_aux") is not None or softcap:
        raise ModelError(f"{type(module).__name__} bends its scores (sinks or a soft cap): they cannot be read")
    # The argument goes before the module's attribute: a decoder made bidirectional keeps module.is_causal.
    causal = bool(is_causal if is_causal is not None else getattr(module, "is_causal", True))
    output: Tensor = _flash_attention_forward(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attention_mask,
        query_length=query.shape[2],
        is_causal=causal,
        dropout=dropout,
        softmax_scale=scaling,
        sliding_window=sliding_window,
        use_top_left_mask=flash_attn_supports_top_left_mask(),  # type: ignore[no-untyped-call]
        target_dtype=get_target_dtype(query, module),
        attn_implementation=FLASH_IMPLEMENTATION,
        **kwargs,
    )
    if observer is not None:
        mask = visible(attention_mask, query.shape[2], causal, sliding_window, query.device)
        scores = Scores(
            query=query,
            key=key,
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            mask=mask,
            causal=mask is None and causal,
        )
        observer.observe(module, scores, value)
    return output, None


def visible(
    padding: Tensor | None, tokens: int, causal: bool, window: int | None, device: torch.device
) -> Tensor | None:
    """What each query sees, as SDPA's mask would say it.

    Args:
        padding: (batch, tokens), False or 0 for padding; None where there is none.
        tokens: queries, and keys.
        causal: a query sees no later key.
        window: FlashAttention's: a query sees keys less than this far away; None for all.
        device: where to put it.

    Returns:
        Bool, broadcastable to (batch, heads, tokens, tokens); None where nothing but `causal` hides anything.
    """
    narrow = window is not None and window < tokens
    if padding is None and not narrow:
        return None
    shown = torch.ones(1, 1, 1, tokens, dtype=torch.bool, device=device)
    if padding is not None:
        shown = padding[:, None, None, :].bool()
    position = torch.arange(tokens, device=device)
    distance = position[:, None] - position
    if causal:
        shown = shown & (distance >= 0)
    if window is not None and narrow:
        shown = shown & (distance.abs() < window)
    return shown


AttentionInterface.register(FLASH_NAME, _observed_flash)
AttentionMaskInterface.register(FLASH_NAME, flash_attention_mask)
