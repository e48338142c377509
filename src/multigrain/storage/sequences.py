"""Sequences whose items lie elsewhere, and are read a stretch at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

__all__ = ["StretchSequence"]

Item = TypeVar("Item")


class StretchSequence(Sequence[Item]):
    """A sequence that knows how to read a stretch of itself: places, negative places and slices come from that."""

    @abstractmethod
    def stretch(self, start: int, stop: int) -> list[Item]:
        """The items from `start` up to `stop`, both within the sequence, in order.

        Args:
            start: the first place.
            stop: the place after the last one; more than `start`.
        """

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return [self[each] for each in range(start, stop, step)]
            return self.stretch(start, stop) if stop > start else []
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.stretch(place, place + 1)[0]
