"""Sequences of records that lie in a temporary file, and are read from it as they are asked for."""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from multigrain.storage.rundir import writing
from multigrain.storage.sequences import StretchSequence

__all__ = ["Spool", "View"]

Item = TypeVar("Item")
Source = TypeVar("Source")

_WAITING_BYTES: Final = 1 << 20  # written at once
_ITEMS_A_READ: Final = 512


class Spool(StretchSequence[Item]):
    """Records in a file without a name, gone with the object: appended one by one, then read by place or in order.

    In memory it holds eight bytes a record, so that a corpus may be larger than memory where any of its documents may
    be asked for at any time. The file lies where `$TMPDIR` says. Only this process writes and reads it, so records are
    pickled.

    Args:
        items: the first records.

    Raises:
        RunDirectoryError: the disk is full.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the object
        weakref.finalize(self, file.close)
        self._file = file
        self._starts = array("q", [0])
        self._waiting = bytearray()
        self._written = 0
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Add a record at the end."""
        self._waiting += pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL)
        self._starts.append(self._written + len(self._waiting))
        if len(self._waiting) >= _WAITING_BYTES:
            self._flush()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _ITEMS_A_READ):
            yield from self.stretch(start, min(start + _ITEMS_A_READ, len(self)))

    def _flush(self) -> None:
        with writing(Path(tempfile.gettempdir())):
            while self._waiting:
                done = self._file.write(self._waiting)
                self._written += done
                del self._waiting[:done]

    def stretch(self, start: int, stop: int) -> list[Item]:
        """The records from `start` up to `stop`, in one read."""
        self._flush()
        begin, end = self._starts[start], self._starts[stop]
        raw = bytearray()
        while len(raw) < end - begin:  # one call gives 2 GiB at most
            part = os.pread(self._file.fileno(), end - begin - len(raw), begin + len(raw))
            if not part:
                raise OSError(f"a temporary file in {tempfile.gettempdir()} is shorter than what was written to it")
            raw += part
        edges = [self._starts[place] - begin for place in range(start, stop + 1)]
        whole = memoryview(raw)
        return [pickle.loads(whole[left:right]) for left, right in pairwise(edges)]  # noqa: S301 - our own file


class View(StretchSequence[Item], Generic[Source, Item]):
    """What a function makes of each record of a sequence, made when it is asked for.

    Args:
        source: the records.
        make: makes an item of a record.
    """

    def __init__(self, source: Sequence[Source], make: Callable[[Source], Item]) -> None:
        self._source, self._make = source, make

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, self._source)

    def stretch(self, start: int, stop: int) -> list[Item]:
        """Made of the records from `start` up to `stop`."""
        return [self._make(each) for each in self._source[start:stop]]
