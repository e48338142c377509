"""An attention function for transformers that is SDPA, and lets one layer be observed while it runs.

Registered under a name of its own, with SDPA's mask function: a name without a mask function gets no mask at all, and
a name with "flash" in it is treated as FlashAttention and gets another one. Every layer computes what SDPA computes;
an observer handed down the model's keyword arguments sees each layer's queries, keys and values first, and may hand
back the layer's output where it came upon it anyway. Keyword arguments belong to one forward pass, so threads do not
meet, and they are there again when gradient checkpointing repeats a layer.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from multigrain.errors import ModelError
from multigrain.model.attention.received import Reduction, Scores, attended_and_received, attention_received

ATTENTION_NAME: Final = "multigrain_sdpa"
OBSERVER_ARGUMENT: Final = "attention_observer"


class AttentionObserver(Protocol):
    """Sees every layer's attention in one forward pass of a model."""

    def observe(self, layer: nn.Module, scores: Scores, value: Tensor) -> Tensor | None:
        """Called by a layer, before it computes its own attention.

        Args:
            layer: the attention module that calls.
            scores: what its attention scores are made from.
            value: what it mixes, (batch, key heads, tokens, head size).

        Returns:
            None, which leaves the output to the layer; or the output, (batch, heads, tokens, head size), as SDPA would
            compute it.
        """


class LayerTrace:
    """Notes which attention modules a forward pass goes through, in order.

    Attributes:
        layers: the modules, one entry a call.
        value_widths: key heads times head size of the values, one entry a call.
    """

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []
        self.value_widths: list[int] = []

    def observe(self, layer: nn.Module, scores: Scores, value: Tensor) -> None:
        """Note the layer."""
        self.layers.append(layer)
        self.value_widths.append(value.shape[1] * value.shape[3])


class ReceivedAttention:
    """Reduces one layer's attention to the weight each token receives, in one forward pass.

    Args:
        layer: the attention module to read.
        calls: which of the layer's calls to read: the last one. More than 1 where layers share one module.
        valid: (batch, tokens) bool, False for padding; None where no text is padded.
        reduction: how queries and heads are reduced.

    Attributes:
        calls: how often the layer has called so far.
    """

    def __init__(self, layer: nn.Module, valid: Tensor | None, reduction: Reduction, *, calls: int = 1) -> None:
        self.calls = 0
        self._expected = calls
        self._layer = layer
        self._valid = valid
        self._reduction = reduction
        self._received: Tensor | None = None
        self._open = True

    def observe(self, layer: nn.Module, scores: Scores, value: Tensor) -> Tensor | None:
        """Reduce the scores, if it is the layer to read and the forward pass is not a repetition.

        Raises:
            ModelError: the layer's queries are not its keys (a cache is in use).
        """
        if layer is not self._layer:
            return None
        # Gradient checkpointing runs the layer again, with this very observer, in the backward pass. Where gradients
        # flow through the weights, that repetition must save the same tensors as the first run did.
        self.calls += self._open
        if self._open and self.calls == self._expected:
            output, self._received = self._reduce(scores, value)
            return output
        if not self._open and self._reduction.grad == "through" and torch.is_grad_enabled():
            self._reduce(scores, value)
        return None

    def _reduce(self, scores: Scores, value: Tensor) -> tuple[Tensor | None, Tensor]:
        """The layer's output, where it came from the same blocks, and the weights."""
        queries, keys = scores.query.shape[2], scores.key.shape[2]
        if queries != keys or (self._valid is not None and self._valid.shape[1] != keys):
            raise ModelError(
                f"ATA pooling reads a whole text at once, but {queries} queries met {keys} keys: "
                "encode without a key-value cache"
            )
        # A layer in training may drop attention; on a GPU its own kernel is faster than blocks of ours.
        if scores.query.device.type == "cpu" and not torch.is_grad_enabled() and not self._layer.training:
            return attended_and_received(scores, value, self._valid, self._reduction)
        return None, attention_received(scores, self._valid, self._reduction)

    def take(self) -> Tensor:
        """Hand over the weights, (batch, tokens), and close: this observer keeps nothing.

        Raises:
            ModelError: the layer ran through the registered attention function less often than it should, or more.
        """
        received, self._received, self._open = self._received, None, False
        if received is None or self.calls != self._expected:
            raise ModelError(
                f"ATA pooling: the last attention layer called {self.calls} times in a forward pass, "
                f"{self._expected} expected"
            )
        return received


def _observed_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """SDPA; shapes (batch, heads, tokens, head size) in, (batch, tokens, heads, head size) out."""
    observer: AttentionObserver | None = kwargs.pop(OBSERVER_ARGUMENT, None)
    if kwargs.get("s_aux") is not None:
        raise ModelError(f"{type(module).__name__} uses attention sinks, which SDPA cannot compute")
    if observer is not None:
        # The argument goes before the module's attribute: a decoder made bidirectional keeps module.is_causal.
        causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
        scores = Scores(
            query=query,
            key=key,
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            mask=attention_mask,
            causal=attention_mask is None and bool(causal),
            bias=position_bias,
        )
        context = observer.observe(module, scores, value)
        if context is not None:
            return context.transpose(1, 2).contiguous(), None
    options = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **kwargs}
    if _quicker_in_float32(query, dropout):
        mask, bias = (
            added.float() if added is not None and added.is_floating_point() else added
            for added in (attention_mask, position_bias)
        )
        with torch.autocast("cpu", enabled=False):
            output, _ = sdpa_attention_forward(
                module, query.float(), key.float(), value.float(), mask, position_bias=bias, **options
            )
        return output.to(query.dtype), None
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, position_bias=position_bias, **options
    )
    return output, None


def _quicker_in_float32(query: Tensor, dropout: float) -> bool:
    """Whether SDPA's fused kernel takes longer for bfloat16 than for float32.

    So it does on CPUs where there are gradients: two to four times as long at 96 tokens with AMX (PyTorch 2.13,
    `benchmarks/training_speed.py`). With dropout SDPA takes another way, for which the type matters less.
    """
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled() and not dropout


AttentionInterface.register(ATTENTION_NAME, _observed_sdpa)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
