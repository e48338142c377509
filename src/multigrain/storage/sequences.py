"""The base of sequences whose items are read from a disk, or computed, a range at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

Item = TypeVar("Item")


class RangeSequence(Sequence[Item]):
    """A sequence that reads ranges of itself; single items, negative indices and slices follow from that."""

    @abstractmethod
    def read_range(self, start: int, stop: int) -> list[Item]:
        """The items from `start` up to `stop`, both within the sequence, in order.

        Args:
            start: the first index.
            stop: the index after the last one; more than `start`.
        """

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return [self[position] for position in range(start, stop, step)]
            return self.read_range(start, stop) if stop > start else []
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.read_range(index, index + 1)[0]
