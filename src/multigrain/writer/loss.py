"""The loss of weighted completions."""

from __future__ import annotations

from typing import Final

from torch import Tensor
from torch.nn import functional

_IGNORED: Final = -100


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over texts of weight × mean loss of a text's tokens.

    Args:
        logits: (texts, tokens, vocabulary).
        labels: (texts, tokens); -100 where nothing is learnt.
        weights: (texts,).
    """
    wanted = labels[:, 1:]
    losses = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), wanted, ignore_index=_IGNORED, reduction="none"
    )
    counts = (wanted != _IGNORED).sum(1).clamp(min=1)
    return (weights.to(losses.device) * losses.sum(1) / counts).mean()
