"""How much attention every token receives, exact, without ever holding a whole attention map.

With A (heads x queries x keys) the attention of one layer over one text, the weight of key j is

    sum    w_j = sum_i mean_h A_hij
    log    w_j = sum_i log(1 + n * mean_h A_hij), n the number of tokens of the text
    mean   the sum, divided by the number of queries that may see j (removes causal attention's bias to early tokens)
    diagonal   w_j = mean_h A_hjj, what a token gives itself (after Ditto, arXiv 2305.10786)

over the text's own tokens i; padding neither gives nor receives. Dropout is left out: the weights are those of the
undisturbed attention. A is rebuilt from queries and keys, a block of queries at a time, in float32.

Rebuilding A is most of what a layer's attention costs. So where nothing is trained, the layer's output is made from
the same blocks (`attended_and_received`), and SDPA need not compute A a second time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from multigrain.errors import ModelError

ReduceName = Literal["sum", "log", "mean", "diagonal"]
HeadsName = Literal["mean", "max"]
GradName = Literal["detach", "through"]

# Scores held at once, 8 MiB of float32: of 1 to 16 MiB the fastest from 512 to 4,096 tokens on two cores. A GPU wants
# fewer, larger launches.
_CPU_BLOCK = 1 << 21
_GPU_BLOCK = 1 << 27
# Fewer queries a block would leave the matrix products too thin.
_FEWEST_ROWS = 16


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a map of attention becomes one weight per key.

    Attributes:
        reduce: sum, log or mean over queries, or diagonal (see the module's text).
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
                names = ", ".join(get_args(choices))
                raise ModelError(f"ATA pooling: {field} {getattr(self, field)!r} is unknown; choose one of {names}")


@dataclass(frozen=True, slots=True)
class Scores:
    """What the attention scores of one layer are made from.

    Attributes:
        query: (batch, heads, tokens, head size).
        key: (batch, key heads, tokens, head size); heads is a multiple of key heads (grouped queries).
        scaling: what the dot products are multiplied by.
        mask: broadcastable to (batch, heads, tokens, tokens), True or 0 where a query sees a key, False or a large
            negative number where it does not; None where nothing but `causal` hides anything.
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


def attention_received(
    scores: Scores, valid: Tensor | None, reduction: Reduction, *, block: int | None = None
) -> Tensor:
    """The weight of every token.

    Args:
        scores: what one layer's attention is computed from.
        valid: (batch, tokens) bool, False for padding; None where no text is padded.
        reduction: how queries and heads are reduced.
        block: scores held at once; None for what is fastest on the device.

    Returns:
        (batch, tokens) float32 weights (float64 for float64 input), >= 0, zero for padding, not normalised.
    """
    device, scores = scores.query.device.type, _squared(scores)
    through = reduction.grad == "through" and torch.is_grad_enabled()
    # Autocast would compute the scores in half precision again.
    with torch.set_grad_enabled(through), torch.autocast(device_type=device, enabled=False):
        return (by_batch if _at_once(scores, valid, block) else by_text)(scores, valid, reduction, block=block)


def attended_and_received(
    scores: Scores, value: Tensor, valid: Tensor | None, reduction: Reduction, *, block: int | None = None
) -> tuple[Tensor, Tensor]:
    """The layer's own output and `attention_received`, from one and the same attention. For CPUs; not differentiable.

    Args:
        scores: what the layer's attention is computed from.
        value: (batch, key heads, tokens, head size), what attention mixes.
        valid: as for `attention_received`.
        reduction: as for `attention_received`.
        block: as for `attention_received`.

    Returns:
        Output as SDPA gives it but for rounding, (batch, heads, tokens, head size), in the value's dtype, for padding
        anything finite, laid out in memory as (batch, tokens, heads, head size); and the weights.
    """
    scores = _squared(scores)
    batch, heads, length, _ = scores.query.shape
    output = value.new_zeros((batch, length, heads, value.shape[3])).transpose(1, 2)
    with torch.no_grad(), torch.autocast(device_type=scores.query.device.type, enabled=False):
        mixing = _Mixing(value, output)
        reduce = by_batch if _at_once(scores, valid, block) else by_text
        return output, reduce(scores, valid, reduction, mixing, block=block)


def _at_once(scores: Scores, valid: Tensor | None, block: int | None) -> bool:
    """Whether to reduce all texts of a batch together.

    A GPU wants few and large calls. On a CPU the work that cutting padding away saves outweighs the calls, except
    where texts are so short that all of them are one block. Without a mask, only cutting hides the padding.
    """
    if scores.query.device.type != "cpu":
        return True
    batch, heads, length, _ = scores.query.shape
    return batch * heads * length**2 <= (block or _CPU_BLOCK) and (valid is None or scores.mask is not None)


def _squared(scores: Scores) -> Scores:
    """Mask and bias with both of their token dimensions spelled out, so that they can be cut."""
    length = scores.query.shape[2]
    return replace(scores, mask=_square(scores.mask, length), bias=_square(scores.bias, length))


def _square(square: Tensor | None, length: int) -> Tensor | None:
    return None if square is None else square.expand(*square.shape[:-2], length, length)


class _Room:
    """Memory that every block uses again. Fresh pages for each block would cost more than its arithmetic."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def tensor(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor | None:
        """Memory of a shape, its content undefined; None where autograd is on, which must own what it saves."""
        if torch.is_grad_enabled():
            return None
        size = math.prod(shape)
        if name not in self._flat or self._flat[name].numel() < size:
            self._flat[name] = like.new_empty(size)
        return self._flat[name][:size].view(shape)


@dataclass(frozen=True, slots=True)
class _Mixing:
    """Values, and where what attention makes of them is written.

    Attributes:
        value: (texts, key heads, tokens, head size).
        output: (texts, heads, tokens, head size).
    """

    value: Tensor
    output: Tensor

    def text(self, index: int, tokens: slice | Tensor) -> _Mixing:
        """One text's, cut to the tokens given: of a span the output is a view, of positions a copy."""
        one = slice(index, index + 1)
        return _Mixing(self.value[one][:, :, tokens].contiguous(), self.output[one][:, :, tokens])

    def mix(self, attention: Tensor, rows: slice, columns: slice, room: _Room) -> None:
        """Write the output of a block of queries, from its attention: (texts, heads, rows, columns)."""
        texts, heads, count, length = attention.shape
        groups, size = self.value.shape[1], self.value.shape[3]
        if attention.dtype != self.value.dtype:
            cast = room.tensor("cast", attention.shape, self.value)
            attention = attention.to(self.value.dtype) if cast is None else cast.copy_(attention)
        stacked = attention.view(texts * groups, heads // groups * count, length)
        mixed = torch.bmm(stacked, self.value.flatten(0, 1)[:, columns])  # flattening copies what is not contiguous
        self.output[:, :, rows] = mixed.view(texts, heads, count, size)


def by_text(
    scores: Scores, valid: Tensor | None, reduction: Reduction, mixing: _Mixing | None = None, block: int | None = None
) -> Tensor:
    """`attention_received`, one text after the other, each cut to its own tokens."""
    batch, _, length, _ = scores.query.shape
    room = _Room()
    received = []
    for index, tokens in enumerate(_spans(valid) if valid is not None else [slice(0, length)] * batch):
        own = None if mixing is None else mixing.text(index, tokens)
        row = _reduce(scores.text(index, tokens), None, reduction, room, own, block)
        if own is not None and mixing is not None and not isinstance(tokens, slice):
            mixing.output[index].index_copy_(1, tokens, own.output[0])
        if isinstance(tokens, slice):
            received.append(torch.nn.functional.pad(row, (tokens.start, length - tokens.stop)))
        else:
            received.append(row.new_zeros(1, length).index_copy(1, tokens, row))
    return torch.cat(received)


def by_batch(
    scores: Scores, valid: Tensor | None, reduction: Reduction, mixing: _Mixing | None = None, block: int | None = None
) -> Tensor:
    """`attention_received`, all texts at once, padding computed and thrown away."""
    return _reduce(scores, valid, reduction, _Room(), mixing, block)


def _spans(valid: Tensor) -> Iterator[slice | Tensor]:
    """For each text where its tokens are: a span, or positions where padding lies between them."""
    positions = torch.arange(valid.shape[1])
    for row in valid:
        tokens = positions[row]
        first, last = (int(tokens[0]), int(tokens[-1])) if len(tokens) else (0, -1)
        yield slice(first, last + 1) if last - first + 1 == len(tokens) else tokens


def _reduce(
    scores: Scores,
    valid: Tensor | None,
    reduction: Reduction,
    room: _Room,
    mixing: _Mixing | None,
    block: int | None,
) -> Tensor:
    """Sum over blocks of queries. Returns (texts, tokens)."""
    texts, _, length, _ = scores.query.shape
    precision = torch.promote_types(scores.query.dtype, torch.float32)
    scores = replace(
        scores, query=scores.query.to(precision) * scores.scaling, key=scores.key.to(precision), scaling=1.0
    )
    received = scores.query.new_zeros((texts, length))
    for rows in _blocks(scores, block):
        columns = _columns(scores, rows)
        if torch.is_grad_enabled():
            # Recomputed in the backward pass: otherwise autograd would keep every block, which is the whole map.
            arguments = (scores, rows, columns, valid, reduction, room)
            weights = checkpoint(_received_from, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            weights = _received_from(scores, rows, columns, valid, reduction, room, mixing)
        received[:, columns] += weights
    if reduction.reduce == "mean":
        received = received / seen_by(scores, valid).clamp(min=1)
    return received if valid is None else received * valid


def _blocks(scores: Scores, block: int | None) -> Iterator[slice]:
    texts, heads, length, _ = scores.query.shape
    budget = block or (_CPU_BLOCK if scores.query.device.type == "cpu" else _GPU_BLOCK)
    step = max(_FEWEST_ROWS, budget // max(1, texts * heads * length))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _columns(scores: Scores, rows: slice) -> slice:
    """The span of keys that any of these queries sees; with causal attention or a window it is not the whole text."""
    length = scores.query.shape[2]
    if scores.mask is None:
        return slice(0, rows.stop if scores.causal else length)
    if scores.mask.dtype != torch.bool or scores.mask.device.type != "cpu":
        return slice(0, length)
    shown = scores.mask[:, :, rows].flatten(0, 2).any(0).nonzero()
    return slice(int(shown[0]), int(shown[-1]) + 1) if len(shown) else slice(0, length)


def _received_from(
    scores: Scores,
    rows: slice,
    columns: slice,
    valid: Tensor | None,
    reduction: Reduction,
    room: _Room,
    mixing: _Mixing | None = None,
) -> Tensor:
    """What a block of queries gives to each of these keys: (texts, columns)."""
    attention = _attention(scores, rows, columns, room)
    if mixing is not None:
        mixing.mix(attention, rows, columns, room)
    counted = None if valid is None else valid[:, None, rows].to(attention.dtype)
    if reduction.reduce == "diagonal":
        # A query gives to one key, its own; every other key of the block gets nothing from it.
        own = attention[..., rows.start - columns.start : rows.stop - columns.start].diagonal(dim1=2, dim2=3)
        shared = own.amax(1) if reduction.heads == "max" else own.mean(1)
        return torch.nn.functional.pad(shared, (rows.start - columns.start, columns.stop - rows.stop))
    if reduction.reduce == "log" or reduction.heads == "max":
        shared = attention.amax(1) if reduction.heads == "max" else attention.mean(1)
        if reduction.reduce == "log":
            tokens = scores.query.shape[2] if valid is None else valid.sum(1).view(-1, 1, 1)
            shared = torch.log1p(shared * tokens)
        return shared.sum(1) if counted is None else (counted @ shared).squeeze(1)
    if counted is None:
        return attention.sum((1, 2)) / attention.shape[1]
    return (counted[:, None] @ attention).squeeze(2).mean(1)


def _attention(scores: Scores, rows: slice, columns: slice, room: _Room) -> Tensor:
    """The attention of a block of queries: (texts, heads, rows, columns)."""
    query, key = scores.query[:, :, rows], scores.key[:, :, columns]
    texts, heads, count, size = query.shape
    groups, length = key.shape[1], key.shape[2]
    # Queries that share a key head are stacked below one another, so that keys are not repeated.
    stacked = query.reshape(texts * groups, heads // groups * count, size)
    keys = key.flatten(0, 1).transpose(1, 2)
    shape = (texts * groups, stacked.shape[1], length)
    logits = torch.bmm(stacked, keys, out=room.tensor("logits", shape, query)).view(texts, heads, count, length)
    if scores.bias is not None:
        logits += scores.bias[:, :, rows, columns]
    hidden = torch.finfo(logits.dtype).min
    if scores.mask is not None:
        mask = scores.mask[:, :, rows, columns]
        if mask.dtype != torch.bool:
            # Not -inf: a row that sees nothing, a padding query's, would become nan.
            logits += mask
            logits.clamp_(min=hidden)
        elif mask.device.type != "cpu" or not bool(mask.all()):
            logits.masked_fill_(~mask, hidden)
    elif scores.causal:
        first = rows.start - columns.start + 1
        later = torch.ones(count, length, dtype=torch.bool, device=query.device).triu(first)
        logits.masked_fill_(later, hidden)
    # In place where that is allowed: a second buffer would push the first out of the cache.
    return torch.softmax(logits, -1, out=None if torch.is_grad_enabled() else logits)


def seen_by(scores: Scores, valid: Tensor | None) -> Tensor:
    """How many of a text's tokens may see each key: (texts or 1, tokens), int64."""
    length = scores.query.shape[2]
    device = scores.query.device
    if scores.mask is not None:
        mask = scores.mask[:, 0]
        shown = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    elif scores.causal:
        shown = torch.ones(1, length, length, dtype=torch.bool, device=device).tril()
    else:
        shown = torch.ones(1, length, 1, dtype=torch.bool, device=device).expand(1, length, length)
    return (shown if valid is None else shown & valid[:, :, None]).sum(1)
