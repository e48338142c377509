"""MPNet's attention, observed.

MPNet computes its attention by itself, without transformers' attention interface, and hands none of the model's
keyword arguments to its layers. So its self-attentions get a class that computes the same with SDPA and shows its
scores; the observer comes by a context variable, which belongs to one thread's forward pass. (MPNet has no gradient
checkpointing, which would run a layer again without it.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from multigrain.model.attention.received import Scores
from multigrain.model.attention.sdpa import AttentionObserver

_ANNOUNCED: ContextVar[AttentionObserver | None] = ContextVar("announced_observer", default=None)


@contextmanager
def announced(observer: AttentionObserver) -> Iterator[None]:
    """Let the MPNet attention that runs inside, in this thread, call the observer."""
    token = _ANNOUNCED.set(observer)
    try:
        yield
    finally:
        _ANNOUNCED.reset(token)


class ObservedMPNetSelfAttention(MPNetSelfAttention):
    """The same weights and, but for rounding, the same states as its base class."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        """Attend, and show the scores to the observer announced.

        Args:
            hidden_states: (batch, tokens, width).
            attention_mask: added to the scores, 0 or a large negative number.
            position_bias: (batch, heads, tokens, tokens), added to the scores.
            output_attentions: compute as the base class does, unobserved: SDPA has no attention map to return.
            **kwargs: ignored, as in the base class.
        """
        if output_attentions:
            eager: tuple[Tensor, ...] = MPNetSelfAttention.forward(  # type: ignore[no-untyped-call]
                self, hidden_states, attention_mask, position_bias, output_attentions=True
            )
            return eager
        shape = (*hidden_states.shape[:-1], -1, self.attention_head_size)
        query, key, value = (layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        added = position_bias
        if attention_mask is not None:
            added = attention_mask if added is None else added + attention_mask
        observer, context = _ANNOUNCED.get(), None
        if observer is not None:
            context = observer.observe(self, Scores(query, key, self.attention_head_size**-0.5, bias=added), value)
        if context is None:
            context = scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if added is None else added.to(query.dtype),
                dropout_p=self.dropout.p if self.training else 0.0,
            )
        return (self.o(context.transpose(1, 2).flatten(2)),)


def observe_mpnet(model: nn.Module) -> bool:
    """Give every self-attention of an MPNet the observed class. Returns whether the model is one."""
    attentions = [module for module in model.modules() if isinstance(module, MPNetSelfAttention)]
    for attention in attentions:
        attention.__class__ = ObservedMPNetSelfAttention
    return bool(attentions)


def release_mpnet(model: nn.Module) -> None:
    """Give every self-attention its own class back."""
    for module in model.modules():
        if isinstance(module, ObservedMPNetSelfAttention):
            module.__class__ = MPNetSelfAttention  # type: ignore[assignment]
