"""Parquet tables that are written and read a row group at a time, however many there are.

A table that fits one shard is one file, NAME.parquet. A larger one is a folder of that name, with shards and a
manifest; see `shards`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.errors import RunDirectoryError
from multigrain.storage.files import atomic_write, take_place, writing
from multigrain.storage.sequences import RangeSequence
from multigrain.storage.shards import MANIFEST_NAME, RUN_AGAIN, Shard, TableManifest, reading, stored_manifest

Item = TypeVar("Item")

_GROUP_ROWS: Final = 4_096
_SHARD_ROWS: Final = 64 * _GROUP_ROWS
_SHARD_BYTES: Final = 256 << 20


class _ShardFile:
    """A file that is written, with its size and checksum as they grow."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._handle = path.open("xb")
        self._dropped = False
        self._crc32 = 0
        self.bytes = 0

    @property
    def crc32(self) -> str:
        return f"{self._crc32:08x}"

    def write(self, data: Any) -> int:
        size = len(data)
        if not self._dropped:
            self._handle.write(data)
            self._crc32 = zlib.crc32(data, self._crc32)
            self.bytes += size
        return size

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        if not self._dropped:
            self._handle.flush()

    def drop(self) -> None:
        """Take what may still come, and write none of it."""
        self._dropped = True

    def save(self) -> None:
        """Have it on the disk."""
        self._handle.flush()
        Path(self._handle.name).chmod(0o644)
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        self._handle.close()


class _ShardWriter:
    """Row groups of one shard."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._name = path.name
        self._file = _ShardFile(path)
        self._parquet = pq.ParquetWriter(self._file, schema, compression="zstd", write_page_checksum=True)
        self.rows = 0

    @property
    def is_full(self) -> bool:
        return self.rows >= _SHARD_ROWS or self._file.bytes >= _SHARD_BYTES

    def write(self, table: pa.Table) -> None:
        self._parquet.write_table(table)
        self.rows += len(table)

    def finish(self) -> Shard:
        self._parquet.close()
        self._file.save()
        self._file.close()
        return Shard(self._name, self.rows, self._file.bytes, self._file.crc32)

    def abandon(self) -> None:
        # Closing writes what is left, on a disk that may be full.
        self._file.drop()
        self._parquet.close()
        with suppress(OSError):
            self._file.close()


class TableWriter(Generic[Item]):
    """Takes the rows of a table that is being written; made by `open_table`.

    Attributes:
        rows: how many it was given.
    """

    def __init__(self, path: Path, folder: Path, schema: pa.Schema, to_row: Callable[[Item], dict[str, Any]]) -> None:
        self._path, self._folder, self._schema, self._to_row = path, folder, schema, to_row
        self._waiting: list[dict[str, Any]] = []
        self._shards: list[Shard] = []
        self._current: _ShardWriter | None = None
        self.rows = 0

    def add(self, items: Iterable[Item]) -> None:
        """Write rows, in order."""
        for item in items:
            self._waiting.append(self._to_row(item))
            self.rows += 1
            begun = 0 if self._current is None else self._current.rows
            if len(self._waiting) >= min(_GROUP_ROWS, _SHARD_ROWS - begun):
                self.flush()

    def flush(self) -> None:
        """End a row group here."""
        if not self._waiting:
            return
        with writing(self._path):
            shard = self._shard()
            shard.write(pa.Table.from_pylist(self._waiting, schema=self._schema))
            if shard.is_full:
                self._end_shard()
        self._waiting = []

    def finish(self) -> TableManifest:
        """Write what is left, and say what was written; the last call."""
        self.flush()
        with writing(self._path):
            if not self._shards:
                self._shard()  # a table without rows is a file all the same
            self._end_shard()
        return TableManifest(self.rows, tuple(map(_column, self._schema)), tuple(self._shards))

    def abandon(self) -> None:
        """Let go of what is open; nothing more is written."""
        if self._current is not None:
            self._current.abandon()

    def _shard(self) -> _ShardWriter:
        if self._current is None:
            self._current = _ShardWriter(self._folder / f"part-{len(self._shards):05}.parquet", self._schema)
        return self._current

    def _end_shard(self) -> None:
        if self._current is not None:
            self._shards.append(self._current.finish())
            self._current = None


@contextmanager
def open_table(path: Path, schema: pa.Schema, to_row: Callable[[Item], dict[str, Any]]) -> Iterator[TableWriter[Item]]:
    """A table to write in row groups; it is there, whole, when the block ends well, and not before.

    What stood there before, a file or a folder, stays until then.

    Args:
        path: the file, or the folder where there is more than one shard.
        schema: its columns.
        to_row: a row's values by column.

    Raises:
        RunDirectoryError: the disk is full, or the place cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        writer = TableWriter(path, folder, schema, to_row)
        try:
            yield writer
            manifest = writer.finish()
        except BaseException:
            writer.abandon()
            raise
        with writing(path):
            _publish(folder, manifest, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # no longer there where it has become the table


def write_table(
    path: Path, schema: pa.Schema, to_row: Callable[[Item], dict[str, Any]], items: Iterable[Item]
) -> None:
    """Write a table, whole or not at all."""
    with open_table(path, schema, to_row) as writer:
        writer.add(items)


def attributes(schema: pa.Schema) -> Callable[[Any], dict[str, Any]]:
    """What makes a row of an object whose attributes have the names of the columns."""
    return lambda item: {name: getattr(item, name) for name in schema.names}


class StoredTable(RangeSequence[Item]):
    """The rows of a table, read from it as they are asked for: a row group at a time is in memory.

    Args:
        path: the file, or the folder of shards.
        schema: the columns to read; those that the file lacks are empty.
        from_row: makes an item of a row's values.

    Raises:
        RunDirectoryError: it cannot be read, or is a folder without its manifest or its shards.
        FileNotFoundError: there is no such table.
    """

    def __init__(self, path: Path, schema: pa.Schema, from_row: Callable[[dict[str, Any]], Item]) -> None:
        self._schema, self._from_row = schema, from_row
        manifest = stored_manifest(path)
        if manifest is None:
            self._files = [_StoredFile(path)]
        else:
            self._files = [_StoredFile(path / shard.file, shard.rows) for shard in manifest.shards]
        self._starts = [0, *accumulate(file.rows for file in self._files)]
        self._last_group: tuple[tuple[int, int], list[Item]] = ((-1, -1), [])

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Item]:
        return self._from(0)

    def read_range(self, start: int, stop: int) -> list[Item]:
        """The rows from `start` up to `stop`."""
        return list(islice(self._from(start), stop - start))

    def _from(self, start: int) -> Iterator[Item]:
        first = bisect_right(self._starts, start) - 1
        for number in range(first, len(self._files)):
            starts = self._files[number].starts
            skipped = max(start - self._starts[number], 0)
            for group in range(bisect_right(starts, skipped) - 1, len(starts) - 1):
                yield from islice(self._group(number, group), max(skipped - starts[group], 0), None)

    def _group(self, number: int, group: int) -> list[Item]:
        """One row group of one file; the last one asked for is kept."""
        position, items = self._last_group
        if position != (number, group):
            table = self._files[number].group(group, self._schema.names)
            items = [self._from_row(row) for row in _with_columns(table, self._schema).to_pylist()]
            self._last_group = ((number, group), items)
        return items


class _StoredFile:
    """One Parquet file; opened when it is needed, and for as long as that takes."""

    def __init__(self, path: Path, rows: int | None = None) -> None:
        self._path, self._expected_rows = path, rows

    @property
    def rows(self) -> int:
        return self.starts[-1] if self._expected_rows is None else self._expected_rows

    @cached_property
    def starts(self) -> list[int]:
        """Where each row group begins, and where the last one ends."""
        with reading(self._path):
            metadata = pq.read_metadata(self._path)
        groups = range(metadata.num_row_groups)
        starts = [0, *accumulate(metadata.row_group(group).num_rows for group in groups)]
        if self._expected_rows not in (None, starts[-1]):
            raise RunDirectoryError(
                f"{self._path}: holds {starts[-1]} rows, and the table's manifest says {self._expected_rows}: "
                f"{RUN_AGAIN}"
            )
        return starts

    def group(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of one row group; those that the file lacks are left out."""
        with reading(self._path), pq.ParquetFile(self._path) as file:
            there = set(file.schema_arrow.names)
            return file.read_row_group(number, columns=[name for name in columns if name in there])


def _column(field: pa.Field) -> str:
    return f"{field.name}: {field.type}{'' if field.nullable else ' not null'}"


def _publish(folder: Path, manifest: TableManifest, path: Path) -> None:
    """Give what was written its name: a file where there is one shard, else the folder."""
    if len(manifest.shards) == 1:
        take_place(folder / manifest.shards[0].file, path)
        return
    atomic_write(folder / MANIFEST_NAME, manifest.dump())
    folder.chmod(0o755)
    _sync_names(folder)
    take_place(folder, path)


def _sync_names(folder: Path) -> None:
    """Flush a folder's list of names to the disk; Windows knows no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, names=schema.names)
