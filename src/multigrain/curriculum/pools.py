"""Sources of rows for the plan: what stands where in a source's data set, and which texts a row would bring."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class GradedPool:
    """Graded rows.

    Attributes:
        keys: for each row those of its query, its positive and its four negatives.
        shape: what of a row is trained on. As triples, rows stand in long form: all of level 1 first, then all of
            level 2, and so on. So the level lives in the index and needs no column (trainers tokenise every column).
    """

    keys: Sequence[tuple[int, ...]]
    shape: GradedShape = "triples"

    @classmethod
    def of(cls, examples: Sequence[GradedExample], shape: GradedShape) -> GradedPool:
        """The pool of graded rows."""
        return cls(
            [
                tuple(map(text_key, (row.query, row.positive, *(negative.text for negative in row.negatives))))
                for row in examples
            ],
            shape,
        )

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.keys)

    def index(self, row: int, level: Level, visit: int) -> int:
        """Where the row stands in the data set, at a level."""
        del visit
        return long_form_index(row, level, len(self.keys)) if self.shape == "triples" else row

    def texts(self, row: int, level: Level, visit: int) -> Sequence[int]:
        """Keys of the texts that the row would bring into a batch."""
        del visit
        keys = self.keys[row]
        if self.shape == "triples":
            return (keys[0], keys[1], keys[1 + level])
        return keys[:2] if self.shape == "pairs" else keys


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


def text_key(text: str) -> int:
    """A number for a text: the same in every process, which the built-in hash is not."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest(), "big")


def long_form_index(row: int, level: Level, rows: int) -> int:
    """Where a row's triple of one level stands in the long form."""
    return (level - 1) * rows + row
