"""The best rows of many queries, kept while a corpus goes by tile by tile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from multigrain.encoders.protocol import Floats

Indices: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Bits: TypeAlias = npt.NDArray[np.int16]

NO_ROW: Final = -1
"""Stands for a corpus row where there are fewer than were asked for; its score is minus infinity."""

EMPTY: Final = np.iinfo(np.int64).min
"""The key of no row."""

_LOW_BITS: Final = 32
_LAST: Final = 2**_LOW_BITS - 1
_WAIT: Final = 3  # merge when a third as many as are kept have passed


class Rows(Protocol):
    """Vectors that are read by slices: an array, a memory map, a store of shards."""

    def __len__(self) -> int:
        """How many rows."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Rows as a (rows, dimensions) array."""
        ...


@dataclass(frozen=True, slots=True)
class _Passed:
    """What of one tile got in.

    Attributes:
        row: (p,) the query within its block, rising.
        counts: (queries,) how many each has.
        keys: (p,) packed.
    """

    row: Indices
    counts: Indices
    keys: Indices


@dataclass
class Best:
    """The best rows of each query so far.

    Score and index are packed into one integer that sorts as they should: picking the best is then one partition.
    What passes is merged when enough has come together. Different threads may offer to different blocks of queries at
    once; a block is the same slice in every call.

    Attributes:
        keys: (n, k) packed scores and indices, in no order; complete after `merge`.
        floors: (n,) the score that a row must exceed to get in: the lowest of k, minus infinity before there are k.
    """

    keys: Indices
    floors: Floats
    _waiting: dict[int, list[_Passed]] = field(default_factory=dict)
    _rooms: list[Mask] = field(default_factory=list)

    @classmethod
    def empty(cls, queries: int, k: int) -> Best:
        """No row yet for any query."""
        return cls(np.full((queries, k), EMPTY, dtype=np.int64), np.full(queries, -np.inf, dtype=np.float32))

    def offer(self, rows: slice, scores: Floats, start: int, ceilings: Floats | None = None) -> None:
        """Look through a tile of scores.

        Args:
            rows: whose they are.
            scores: (queries, m) of consecutive corpus rows; -inf for those that do not count.
            start: the first one's index. Indices rise from call to call, so an equal score never displaces one
                that is in already.
            ceilings: (queries, 1) the highest score that counts; None for no limit.
        """
        bars = self.floors[rows, None]
        if np.isneginf(bars).any():
            own = _tile_bars(scores, self.keys.shape[1], ceilings, np.float32(-np.inf))
            bars = bars if own is None else np.maximum(bars, np.nextafter(own, np.float32(-np.inf)))
        places = self._passing(scores, bars, ceilings)
        self._put(rows, places, scores.shape[1], scores.reshape(-1)[places], start)

    def offer_bf16(self, rows: slice, bits: Bits, start: int, ceilings: Floats | None = None) -> None:
        """The same for scores in bfloat16, given by their bits: integers are compared faster than any float.

        Args:
            rows: whose they are.
            bits: (queries, m).
            start: the first one's index.
            ceilings: (queries, 1) in float32; they are rounded up.
        """
        floors = self.floors[rows, None]
        bars = _bf16_bits(floors)
        tops = None if ceilings is None else _bf16_bits_above(ceilings)
        compared = bits
        if min(float(floors.min()), 0.0 if ceilings is None else float(ceilings.min())) < 0:
            compared, bars, tops = _sortable(bits), _sortable(bars), None if tops is None else _sortable(tops)
        # Else bits of positive numbers sort as the numbers do, and those of negative ones are below them.
        if np.isneginf(floors).any():
            own = _tile_bars(compared, self.keys.shape[1], tops, np.int16(np.iinfo(np.int16).min + 1))
            bars = bars if own is None else np.maximum(bars, own - np.int16(1))
        places = self._passing(compared, bars, tops)
        self._put(rows, places, bits.shape[1], _bf16_floats(bits.reshape(-1)[places]), start)

    def result(self) -> tuple[Floats, Indices]:
        """(n, k) scores and indices, best first; minus infinity and `NO_ROW` where there are fewer. Merge first."""
        return unpack(np.sort(self.keys, axis=1)[:, ::-1])

    def merge(self, rows: slice) -> None:
        """Bring `keys` and `floors` of a block of queries up to date."""
        waiting = self._waiting.pop(rows.start, [])
        if not waiting:
            return
        keys = self.keys[rows]
        k = keys.shape[1]
        most = int(np.sum([passed.counts for passed in waiting], axis=0).max())
        wide = np.full((len(keys), k + most), EMPTY, dtype=np.int64)
        wide[:, :k] = keys
        filled = np.full(len(keys), k)
        for passed in waiting:
            first = filled - (np.cumsum(passed.counts) - passed.counts)
            wide[passed.row, np.arange(len(passed.row)) + np.repeat(first, passed.counts)] = passed.keys
            filled += passed.counts
        wide.partition(most, axis=1)
        self.keys[rows] = wide[:, most:]
        lowest = wide[:, most:].min(axis=1)
        self.floors[rows] = np.where(lowest == EMPTY, np.float32(-np.inf), _scores(lowest))

    def _passing(self, values: Any, bars: Any, tops: Any) -> Indices:
        """Places in a tile of what is above the bars and no higher than the tops."""
        room = self._rooms.pop() if self._rooms else np.empty(0, dtype=bool)
        room = room if room.size >= values.size else np.empty(values.size, dtype=bool)
        passing = room[: values.size].reshape(values.shape)
        np.greater(values, bars, out=passing)
        many = tops is not None and np.count_nonzero(passing) > values.size // 32
        if many:
            passing &= values <= tops
        places = np.flatnonzero(passing)
        self._rooms.append(room)
        if tops is None or many:
            return places
        low: Mask = values.reshape(-1)[places] <= tops.reshape(-1)[places // values.shape[1]]
        return places[low]

    def _put(self, rows: slice, places: Indices, columns: int, scores: Floats, start: int) -> None:
        """Add what passed: places in a tile of so many columns, and the scores there."""
        if not places.size:
            return
        queries, k = self.keys[rows].shape
        row = places // columns
        waiting = self._waiting.setdefault(rows.start, [])
        waiting.append(_Passed(row, np.bincount(row, minlength=queries), pack(scores, places - row * columns + start)))
        # Until there are k, nearly everything passes; later few do, and merging every time would cost more than they.
        if sum(len(passed.row) for passed in waiting) > queries * k // _WAIT or np.isneginf(self.floors[rows]).any():
            self.merge(rows)


def pack(scores: Floats, indices: Indices) -> Indices:
    """Integers that sort by score, then by falling index (IEEE 754: magnitudes of negative numbers run backwards)."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # adding zero makes -0.0 equal to 0.0
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return (ordered << _LOW_BITS) | (_LAST - indices)


def unpack(keys: Indices) -> tuple[Floats, Indices]:
    """Scores and indices of packed ones, in their order and shape."""
    missing = keys == EMPTY
    indices = np.where(missing, NO_ROW, _LAST - (keys & _LAST))
    return np.where(missing, np.float32(-np.inf), _scores(keys)), indices


def _scores(keys: Indices) -> Floats:
    ordered = (keys >> _LOW_BITS).astype(np.int32)
    return np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).astype(np.int32).view(np.float32)


def _tile_bars(values: Any, k: int, ceilings: Any, lowest: Any) -> Any:
    """For each query a value that at least k of a tile reach, or None where the tile is too small to tell.

    Before a query has k rows nearly everything passes. Of the greatest of each group of values the k-th is not far
    below the k-th of all, and found in a fraction of the time.
    """
    size = values.shape[1] // (2 * k)
    if size < 2:
        return None
    shown = values if ceilings is None else np.where(values <= ceilings, values, lowest)
    groups = shown[:, : shown.shape[1] // size * size].reshape(len(shown), size, -1).max(axis=1)
    return np.partition(groups, groups.shape[1] - k, axis=1)[:, groups.shape[1] - k, None]


def _bf16_bits(values: Floats) -> Bits:
    """Bits of float32 numbers that bfloat16 holds as they are."""
    return (np.ascontiguousarray(values).view(np.int32) >> 16).astype(np.int16)


def _bf16_bits_above(values: Floats) -> Bits:
    """Bits of the smallest bfloat16 numbers that are no smaller. Cutting digits off lowers positive numbers only."""
    whole = np.ascontiguousarray(values).view(np.int32)
    cut = whole >> 16
    return np.asarray(cut + ((whole > 0) & ((whole & 0xFFFF) != 0)), dtype=np.int16)


def _bf16_floats(bits: Bits) -> Floats:
    return (bits.astype(np.int32) << 16).view(np.float32)


def _sortable(bits: Bits) -> Bits:
    """Bits that sort as the numbers do: magnitudes of negative numbers run backwards."""
    return bits ^ ((bits >> 15) & np.int16(0x7FFF))
