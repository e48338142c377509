"""A batch computed in parts of texts of about the same length, so that little time goes into padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, Final

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from torch.nn.functional import pad

from multigrain.encoders.batches import TOKENS, token_batches

_Features = dict[str, Any]

_WORTH_IT: Final = 0.9
"""Share of a batch's tokens, padding among them, that parts may compute at most."""


@contextmanager
def padding_cut(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Call a model's transformers part by part for a while, the padding of each part cut to its longest text.

    Batches, loss and gradients stay as they are but for rounding. On a CPU the work that is saved outweighs the
    calls; a GPU wants few and large ones.

    Args:
        model: what is tuned.
        enabled: whether it is tuned on a CPU; nothing is changed otherwise.
    """
    transformers = [module for module in model.modules() if isinstance(module, Transformer)] if enabled else []
    for transformer in transformers:
        # A method, not a function: bound anew where the model is copied.
        transformer.forward = MethodType(_part_by_part, transformer)
    try:
        yield
    finally:
        for transformer in transformers:
            del transformer.forward


@dataclass(frozen=True)
class _Part:
    """Rows of a batch, and where all of their tokens stand."""

    rows: list[int]
    tokens: slice

    def of(self, features: _Features, *, shape: tuple[int, int]) -> _Features:
        """The part of everything that has a place for each row, or for each token."""
        return {name: self._of(value, shape) for name, value in features.items()}

    def _of(self, value: Any, shape: tuple[int, int]) -> Any:
        if not isinstance(value, Tensor) or value.dim() == 0 or value.size(0) != shape[0]:
            return value
        rows = value[self.rows]
        return rows[:, self.tokens] if value.shape == shape else rows


def _part_by_part(transformer: Transformer, features: _Features, **options: Any) -> _Features:
    """What the transformer's own `forward` does, in parts."""
    forward: Callable[[_Features], _Features] = partial(type(transformer).forward, transformer, **options)
    parts = _parts(features, rotates=getattr(transformer.model.config, "rope_parameters", None) is not None)
    if len(parts) < 2:
        return forward(features)
    mask = features["attention_mask"]
    made = [forward(part.of(features, shape=mask.shape)) for part in parts]
    back = torch.tensor([row for part in parts for row in part.rows]).argsort()
    for name in made[0].keys() - features.keys():
        features[name] = _joined([each[name] for each in made], parts, mask.size(1), back)
    return features


def _parts(features: _Features, *, rotates: bool) -> list[_Part]:
    """Parts of a batch of texts, longest first; none where it is no such batch, or its padding moves tokens.

    None either where they would save little: each part adds to the gradients of the whole table of token embeddings.

    Args:
        features: of the batch.
        rotates: whether the model tells positions by rotation, to which padding on the left makes no difference.
    """
    mask = features.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or any(_has_more_axes(value) for value in features.values()):
        return []
    width = mask.size(1)
    left = not bool(mask[:, 0].all())
    if left and not (rotates and bool(mask[:, -1].all())):
        return []
    lengths = mask.sum(dim=1).tolist()
    parts: list[_Part] = []
    for rows in token_batches(lengths, TOKENS):
        # The first part keeps the width of the batch: where widths differ, they tell what has a place for each token.
        longest = lengths[rows[0]] if parts else width
        parts.append(_Part(rows, slice(width - longest, width) if left else slice(longest)))
    computed = sum(len(part.rows) * len(range(width)[part.tokens]) for part in parts)
    return parts if computed <= _WORTH_IT * mask.numel() else []


def _has_more_axes(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 2


def _joined(made: Sequence[Any], parts: Sequence[_Part], width: int, back: Tensor) -> Any:
    """What the parts made of a name, in the order of the batch, with zeros where padding was cut."""
    if isinstance(made[0], tuple):
        return tuple(_joined(layer, parts, width, back) for layer in zip(*made, strict=True))
    if not isinstance(made[0], Tensor):
        return made[0]
    spans = [range(width)[part.tokens] for part in parts]
    if all(value.dim() > 1 and value.size(1) == len(span) for value, span in zip(made, spans, strict=True)):
        made = [
            pad(value, (0, 0) * (value.dim() - 2) + (span.start, width - span.stop))
            for value, span in zip(made, spans, strict=True)
        ]
    return torch.cat(list(made))[back]
