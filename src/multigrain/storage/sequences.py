"""Sequences whose items are read from a disk, or computed, when they are asked for; lists in a temporary file."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, overload

from multigrain.storage.files import writing

Item = TypeVar("Item")
Source = TypeVar("Source")

_READ_ITEMS: Final = 512


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


class DiskList(RangeSequence[Item]):
    """A list of records in a nameless temporary file that is removed with the object; records are appended.

    In memory it holds eight bytes a record, so a corpus may be larger than memory while any of its documents can be
    read at any time. The file is in `$TMPDIR`. Only this process writes and reads it, so records are pickled.

    Args:
        items: the first records.
        pack: makes a record into plain values, which are pickled several times faster than objects; None keeps it.
        unpack: makes a record of them again.
        buffer_bytes: how much is held in memory before it is written.

    Raises:
        RunDirectoryError: the disk is full.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        *,
        pack: Callable[[Item], Any] | None = None,
        unpack: Callable[[Any], Item] | None = None,
        buffer_bytes: int = 1 << 20,
    ) -> None:
        file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the object
        weakref.finalize(self, file.close)
        self._file = file
        self._pack, self._unpack = pack, unpack
        self._reading = threading.Lock()
        self._starts = array("q", [0])
        self._buffer = bytearray()
        self._buffer_bytes = buffer_bytes
        self._written = 0
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Add a record at the end."""
        values = item if self._pack is None else self._pack(item)
        self._buffer += pickle.dumps(values, protocol=pickle.HIGHEST_PROTOCOL)
        self._starts.append(self._written + len(self._buffer))
        if len(self._buffer) >= self._buffer_bytes:
            self._flush()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _READ_ITEMS):
            yield from self.read_range(start, min(start + _READ_ITEMS, len(self)))

    def _flush(self) -> None:
        if not self._buffer:
            return
        with writing(Path(tempfile.gettempdir())):
            while self._buffer:
                size = self._file.write(self._buffer)
                self._written += size
                del self._buffer[:size]

    def read_range(self, start: int, stop: int) -> list[Item]:
        """The records from `start` up to `stop`, in one read."""
        self._flush()
        begin, end = self._starts[start], self._starts[stop]
        raw = bytearray()
        while len(raw) < end - begin:  # one call gives 2 GiB at most
            part = self._read(end - begin - len(raw), begin + len(raw))
            if not part:
                raise OSError(f"a temporary file in {tempfile.gettempdir()} is shorter than what was written to it")
            raw += part
        edges = [self._starts[place] - begin for place in range(start, stop + 1)]
        whole = memoryview(raw)
        records = [pickle.loads(whole[start:stop]) for start, stop in pairwise(edges)]  # noqa: S301 - our own file
        return records if self._unpack is None else list(map(self._unpack, records))

    def _read(self, size: int, position: int) -> bytes:
        if sys.platform == "win32":  # it has no pread
            with self._reading:
                self._file.seek(position)
                part: bytes = self._file.read(size)
                self._file.seek(0, os.SEEK_END)
                return part
        return os.pread(self._file.fileno(), size, position)


class TextTable(Mapping[str, str]):
    """Texts by id, in the order in which they were added; the texts lie in a temporary file, the ids in memory.

    Memory holds some 200 bytes an id. To go through values or items in order is fast, one text by its id is one read.

    Args:
        texts: the first ids and texts.

    Raises:
        RunDirectoryError: the disk is full.
    """

    def __init__(self, texts: Iterable[tuple[str, str]] = ()) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: DiskList[str] = DiskList()
        for identifier, text in texts:
            self.add(identifier, text)

    def __repr__(self) -> str:
        return f"TextTable(texts={len(self)})"

    def add(self, identifier: str, text: str) -> bool:
        """Add a text at the end. Says whether the id is new; else nothing is added."""
        if self._numbers.setdefault(identifier, len(self._numbers)) < len(self._texts):
            return False
        self._texts.append(text)
        return True

    def number(self, identifier: str) -> int:
        """Which of the texts has an id, from 0.

        Raises:
            KeyError: none has.
        """
        return self._numbers[identifier]

    def __getitem__(self, identifier: str) -> str:
        return self._texts[self._numbers[identifier]]

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def values(self) -> ValuesView[str]:
        """The texts, read some hundred at a time."""
        return _Values(self, self._texts)

    def items(self) -> ItemsView[str, str]:
        """Ids and texts, read some hundred at a time."""
        return _Items(self, self._texts)


class _Values(ValuesView[str]):
    def __init__(self, table: TextTable, texts: Sequence[str]) -> None:
        super().__init__(table)
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)


class _Items(ItemsView[str, str]):
    def __init__(self, table: TextTable, texts: Sequence[str]) -> None:
        super().__init__(table)
        self._table, self._texts = table, texts

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self._table, self._texts, strict=True)


class View(RangeSequence[Item], Generic[Source, Item]):
    """A sequence with a function applied to each record, when the record is asked for.

    Args:
        source: the records.
        convert: makes an item of a record.
    """

    def __init__(self, source: Sequence[Source], convert: Callable[[Source], Item]) -> None:
        self._source, self._convert = source, convert

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Item]:
        return map(self._convert, self._source)

    def read_range(self, start: int, stop: int) -> list[Item]:
        """The converted records from `start` up to `stop`."""
        return [self._convert(record) for record in self._source[start:stop]]
