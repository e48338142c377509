"""Sources of rows for the plan: what stands where in a source's data set, and which texts a row would bring."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, Literal, Protocol

from multigrain.records import GradedExample, Level

GradedShape = Literal["pairs", "triples", "lists"]
"""A graded row as the loss gets it: without negatives, with that of one level, or with all four."""

_KEY_BYTES: Final = 8


class RowPool(Protocol):
    """One source's rows, as the plan sees them."""

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def index(self, row: int, level: Level, visit: int) -> int:
        """Where the row stands in the source's data set, at a level, when it is visited for the nth time."""
        ...

    def texts(self, row: int, level: Level, visit: int) -> Sequence[int]:
        """Keys of the texts that the row would bring into a batch."""
        ...

    def shuns(self, row: int) -> Sequence[int]:
        """Keys of the row's positives where there are several: no other row may bring one into its batch."""
        ...

    def row_at(self, index: int) -> int:
        """The row that stands at an index of the source's data set."""
        ...


@dataclass(frozen=True)
class GradedPool:
    """Graded rows.

    Attributes:
        keys: for each row those of its query, its positive and its four negatives.
        shape: what of a row is trained on. As triples, rows stand in long form: all of level 1 first, then all of
            level 2, and so on. So the level lives in the index and needs no column (trainers tokenise every column).
        further: for each row the keys of its further positives; empty where no row has any. A row stands in the data
            set once for each of its positives, one after another, and is visited with each in turn.
    """

    keys: Sequence[tuple[int, ...]]
    shape: GradedShape = "triples"
    further: Sequence[tuple[int, ...]] = ()

    @classmethod
    def of(cls, examples: Sequence[GradedExample], shape: GradedShape) -> GradedPool:
        """The pool of graded rows."""
        return cls(
            [
                tuple(map(passage_key, (row.query, row.positive, *(negative.text for negative in row.negatives))))
                for row in examples
            ],
            shape,
            further if any(further := [further_positive_keys(row) for row in examples]) else (),
        )

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.keys)

    @cached_property
    def _starts(self) -> Sequence[int]:
        """Where each row begins within a level, and where the last one ends."""
        counts = (1 + len(keys) for keys in self.further)
        return list(accumulate(counts, initial=0)) if self.further else range(len(self.keys) + 1)

    def index(self, row: int, level: Level, visit: int) -> int:
        """Where the row stands in the data set, at a level, with the positive of this visit."""
        place = self._starts[row] + (visit % (1 + len(self.further[row])) if self.further else 0)
        return long_form_index(place, level, self._starts[-1]) if self.shape == "triples" else place

    def texts(self, row: int, level: Level, visit: int) -> Sequence[int]:
        """Keys of the texts that the row would bring into a batch."""
        query, positive, *negatives = self.keys[row]
        if self.further and self.further[row]:
            positive = (positive, *self.further[row])[visit % (1 + len(self.further[row]))]
        if self.shape == "triples":
            return (query, positive, negatives[level - 1])
        return (query, positive) if self.shape == "pairs" else (query, positive, *negatives)

    def shuns(self, row: int) -> Sequence[int]:
        """Keys of the row's positives where there are several."""
        return (self.keys[row][1], *self.further[row]) if self.further and self.further[row] else ()

    def row_at(self, index: int) -> int:
        """The row that stands at an index of the data set."""
        return bisect_right(self._starts, index % self._starts[-1]) - 1


@dataclass(frozen=True)
class ListPool:
    """Graded rows as lists of passages that a teacher has scored.

    A row brings its query and its positive alone: what its passages are worth is known for its own query only, so
    they are nobody's negatives, and may be the passages of several rows.

    Attributes:
        keys: for each row those of its query and its positive.
        further: for each row the keys of its further positives.
        banded: whether rows stand in long form: the passages of level 1's band first, then of level 2's, and so on.
        in_turn: whether a row stands in the data set once for each of its positives, one after another, and is visited
            with each in turn; else its first positive alone is one.
    """

    keys: Sequence[tuple[int, int]]
    further: Sequence[tuple[int, ...]]
    banded: bool
    in_turn: bool = False

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.keys)

    @cached_property
    def _starts(self) -> Sequence[int]:
        """Where each row begins within a level, and where the last one ends."""
        if not self.in_turn:
            return range(len(self.keys) + 1)
        return list(accumulate((1 + len(keys) for keys in self.further), initial=0))

    def _turn(self, row: int, visit: int) -> int:
        return visit % (1 + len(self.further[row])) if self.in_turn else 0

    def index(self, row: int, level: Level, visit: int) -> int:
        """Where the row stands in the data set, at a level, with the positive of this visit."""
        place = self._starts[row] + self._turn(row, visit)
        return long_form_index(place, level, self._starts[-1]) if self.banded else place

    def texts(self, row: int, level: Level, visit: int) -> Sequence[int]:
        """Keys of the row's query and of the positive of this visit."""
        del level
        query, positive = self.keys[row]
        return query, (positive, *self.further[row])[self._turn(row, visit)]

    def shuns(self, row: int) -> Sequence[int]:
        """Keys of the row's positives where there are several."""
        return (self.keys[row][1], *self.further[row]) if self.further[row] else ()

    def row_at(self, index: int) -> int:
        """The row that stands at an index of the data set."""
        return bisect_right(self._starts, index % self._starts[-1]) - 1


@dataclass(frozen=True)
class PairPool:
    """Rows of a retrieval set: each a query, a positive and mined negatives, or none.

    A row stands in the data set once for each of its negatives, one after another, and is visited with each in turn.

    Attributes:
        keys: for each row those of its query and positive, and then of its negatives.
        starts: where each row begins in the data set.
    """

    keys: Sequence[tuple[int, ...]]
    starts: Sequence[int]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.keys)

    def index(self, row: int, level: Level, visit: int) -> int:
        """Where the row stands in the data set with the negative of this visit."""
        del level
        return self.starts[row] + visit % max(1, len(self.keys[row]) - 2)

    def texts(self, row: int, level: Level, visit: int) -> Sequence[int]:
        """Keys of the texts that the row would bring into a batch."""
        del level
        keys = self.keys[row]
        return keys if len(keys) == 2 else (keys[0], keys[1], keys[2 + visit % (len(keys) - 2)])

    def shuns(self, row: int) -> Sequence[int]:
        """Nothing: a row has one positive."""
        del row
        return ()

    def row_at(self, index: int) -> int:
        """The row that stands at an index of the data set."""
        return bisect_right(self.starts, index) - 1


def further_positive_keys(row: GradedExample) -> tuple[int, ...]:
    """Keys of a row's further positives."""
    return tuple(passage_key(passage.text) for passage in row.further_positives)


def passage_key(text: str) -> int:
    """A number for a text: the same in every process, which the built-in hash is not."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest(), "big")


def long_form_index(row: int, level: Level, rows: int) -> int:
    """Where a row's triple of one level stands in the long form."""
    return (level - 1) * rows + row
