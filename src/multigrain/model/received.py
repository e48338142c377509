"""How much attention every token receives, exact, without ever holding a whole attention map.

With A (heads x queries x keys) the attention of one layer over one text, the weight of key j is

    sum    w_j = sum_i mean_h A_hij
    log    w_j = sum_i log(1 + n * mean_h A_hij), n the number of tokens of the text
    mean   the sum, divided by the number of queries that may see j (removes causal attention's bias to early tokens)

over the text's own tokens i; padding neither gives nor receives. Dropout is left out: the weights are those of the
undisturbed attention. A is rebuilt from queries and keys, a block of queries at a time, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from multigrain.errors import ModelError

__all__ = ["GradName", "HeadsName", "ReduceName", "Reduction", "Scores", "attention_received"]

ReduceName = Literal["sum", "log", "mean"]
HeadsName = Literal["mean", "max"]
GradName = Literal["detach", "through"]

# Scores held at once: 2 MiB of float32 stay in a core's cache; a GPU wants fewer, larger launches.
_CPU_BLOCK = 1 << 19
_GPU_BLOCK = 1 << 27


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a map of attention becomes one weight per key.

    Attributes:
        reduce: sum, log or mean over queries (see the module's text).
        heads: mean or max over heads, taken before the reduction over queries.
        grad: detach treats the weights as constants; through lets gradients flow into queries and keys.

    Raises:
        ModelError: an unknown choice.
    """

    reduce: ReduceName = "log"
    heads: HeadsName = "mean"
    grad: GradName = "detach"

    def __post_init__(self) -> None:
        for field, choices in (("reduce", ReduceName), ("heads", HeadsName), ("grad", GradName)):
            if getattr(self, field) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ModelError(f"ATA pooling: {field} {getattr(self, field)!r} is unknown; choose one of {known}")


@dataclass(frozen=True, slots=True)
class Scores:
    """What the attention scores of one layer are made from.

    Attributes:
        query: (batch, heads, tokens, head size).
        key: (batch, key heads, tokens, head size); heads is a multiple of key heads (grouped queries).
        scaling: what the dot products are multiplied by.
        mask: (batch or 1, heads or 1, tokens, tokens), True or 0 where a query sees a key, False or a large negative
            number where it does not; None where nothing but `causal` hides anything.
        causal: a query sees no later key. Only read where mask is None.
        bias: position bias added to the scores, broadcastable to (batch, heads, tokens, tokens); None for none.
    """

    query: Tensor
    key: Tensor
    scaling: float
    mask: Tensor | None = None
    causal: bool = False
    bias: Tensor | None = None

    def text(self, index: int, tokens: slice | Tensor) -> Scores:
        """The scores of one text of the batch, cut to the tokens given (a span, or their positions)."""

        def cut(square: Tensor | None) -> Tensor | None:
            if square is None:
                return None
            own = square[index : index + 1] if square.shape[0] > 1 else square
            return own[:, :, tokens][:, :, :, tokens]

        one = slice(index, index + 1)
        return Scores(
            query=self.query[one][:, :, tokens],
            key=self.key[one][:, :, tokens],
            scaling=self.scaling,
            mask=cut(self.mask),
            causal=self.causal,
            bias=cut(self.bias),
        )


def attention_received(scores: Scores, valid: Tensor | None, reduction: Reduction) -> Tensor:
    """The weight of every token.

    Args:
        scores: what one layer's attention is computed from.
        valid: (batch, tokens) bool, False for padding; None where no text is padded.
        reduction: how queries and heads are reduced.

    Returns:
        (batch, tokens) float32 weights (float64 for float64 input), >= 0, zero for padding, not normalised.
    """
    if reduction.grad == "detach":
        with torch.no_grad():
            return _attention_received(scores, valid, reduction)
    return _attention_received(scores, valid, reduction)


def _attention_received(scores: Scores, valid: Tensor | None, reduction: Reduction) -> Tensor:
    # Autocast would compute the scores in half precision again.
    with torch.autocast(device_type=scores.query.device.type, enabled=False):
        if scores.query.device.type == "cpu":
            return _by_text(scores, valid, reduction)
        return _by_batch(scores, valid, reduction)


def _by_text(scores: Scores, valid: Tensor | None, reduction: Reduction) -> Tensor:
    """One text after the other, padding cut away: on a CPU the work saved outweighs the calls."""
    batch, _, length, _ = scores.query.shape
    if valid is None:
        rows = [_reduce(scores.text(index, slice(0, length)), None, reduction) for index in range(batch)]
        return torch.cat(rows)
    rows = []
    for index, tokens in enumerate(_spans(valid)):
        row = scores.query.new_zeros((1, length), dtype=_precision(scores.query))
        found = _reduce(scores.text(index, tokens), None, reduction)
        if isinstance(tokens, slice):
            rows.append(torch.nn.functional.pad(found, (tokens.start, length - tokens.stop)))
        else:
            rows.append(row.index_copy(1, tokens, found))
    return torch.cat(rows)


def _by_batch(scores: Scores, valid: Tensor | None, reduction: Reduction) -> Tensor:
    return _reduce(scores, valid, reduction)


def _spans(valid: Tensor) -> Iterator[slice | Tensor]:
    """For each text where its tokens are: a span, or positions where padding lies between them."""
    positions = torch.arange(valid.shape[1])
    for row in valid:
        tokens = positions[row]
        first, last = (int(tokens[0]), int(tokens[-1])) if len(tokens) else (0, -1)
        yield slice(first, last + 1) if last - first + 1 == len(tokens) else tokens


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _reduce(scores: Scores, valid: Tensor | None, reduction: Reduction) -> Tensor:
    """Sum over blocks of queries. Returns (texts, tokens)."""
    texts, heads, length, _ = scores.query.shape
    budget = _CPU_BLOCK if scores.query.device.type == "cpu" else _GPU_BLOCK
    step = max(1, min(length, budget // max(1, texts * heads * length)))
    through = reduction.grad == "through" and torch.is_grad_enabled()
    received = scores.query.new_zeros((texts, length), dtype=_precision(scores.query))
    for start in range(0, length, step):
        rows = slice(start, min(start + step, length))
        if through:
            # Recomputed in the backward pass: otherwise autograd would keep every block, which is the whole map.
            part = checkpoint(_block, scores, rows, valid, reduction, use_reentrant=False, preserve_rng_state=False)
        else:
            part = _block(scores, rows, valid, reduction)
        received = received + part
    if reduction.reduce == "mean":
        received = received / _seen_by(scores, valid).clamp(min=1)
    return received if valid is None else received * valid


def _block(scores: Scores, rows: slice, valid: Tensor | None, reduction: Reduction) -> Tensor:
    """What one block of queries gives to every key: (texts, tokens)."""
    attention = _attention(scores, rows)
    texts, _, _, length = attention.shape
    counted = None if valid is None else valid[:, None, rows].to(attention.dtype)
    if reduction.reduce == "log" or reduction.heads == "max":
        shared = attention.amax(1) if reduction.heads == "max" else attention.mean(1)
        if reduction.reduce == "log":
            tokens = length if valid is None else valid.sum(1).view(texts, 1, 1)
            shared = torch.log1p(shared * tokens)
        return shared.sum(1) if counted is None else (counted @ shared).squeeze(1)
    per_head = attention.sum(2) if counted is None else (counted[:, None] @ attention).squeeze(2)
    return per_head.mean(1)


def _attention(scores: Scores, rows: slice) -> Tensor:
    """The attention of a block of queries: (texts, heads, rows, tokens)."""
    query, key = scores.query[:, :, rows], scores.key
    texts, heads, count, size = query.shape
    groups, length = key.shape[1], key.shape[2]
    precision = _precision(query)
    # Queries that share a key head are stacked below one another, so that keys are not repeated.
    stacked = query.to(precision).reshape(texts, groups, heads // groups * count, size) * scores.scaling
    logits = (stacked @ key.to(precision).transpose(2, 3)).view(texts, heads, count, length)
    if scores.bias is not None:
        logits = logits + scores.bias[:, :, rows]
    hidden = torch.finfo(precision).min
    if scores.mask is not None:
        mask = scores.mask[:, :, rows]
        logits = logits.masked_fill(~mask, hidden) if mask.dtype == torch.bool else logits + mask
    elif scores.causal:
        later = torch.ones(count, length, dtype=torch.bool, device=query.device).triu(rows.start + 1)
        logits = logits.masked_fill(later, hidden)
    return logits.softmax(-1)


def _seen_by(scores: Scores, valid: Tensor | None) -> Tensor:
    """How many of a text's tokens may see each key: (texts or 1, tokens)."""
    length = scores.query.shape[2]
    device = scores.query.device
    if scores.mask is not None:
        mask = scores.mask[:, 0]
        seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    elif scores.causal:
        seen = torch.ones(1, length, length, dtype=torch.bool, device=device).tril()
    else:
        seen = torch.ones(1, length, 1, dtype=torch.bool, device=device).expand(1, length, length)
    return (seen if valid is None else seen & valid[:, :, None]).sum(1)
