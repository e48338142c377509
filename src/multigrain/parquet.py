"""Parquet tables that are written and read a lot of rows at a time, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, overload

import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.rundir import atomic_stream, writing

__all__ = ["StoredTable", "TableWriter", "open_table", "write_table"]

Item = TypeVar("Item")

_GROUP_ROWS: Final = 4_096


class TableWriter(Generic[Item]):
    """Takes the rows of a table that is being written; made by `open_table`.

    Attributes:
        rows: how many it was given.
    """

    def __init__(
        self, path: Path, parquet: pq.ParquetWriter, schema: pa.Schema, to_row: Callable[[Item], dict[str, Any]]
    ) -> None:
        self._path, self._parquet, self._schema, self._to_row = path, parquet, schema, to_row
        self._waiting: list[dict[str, Any]] = []
        self.rows = 0

    def add(self, items: Iterable[Item]) -> None:
        """Write rows, in order."""
        for each in items:
            self._waiting.append(self._to_row(each))
            self.rows += 1
            if len(self._waiting) == _GROUP_ROWS:
                self.flush()

    def flush(self) -> None:
        """End a row group here."""
        if self._waiting:
            with writing(self._path):
                self._parquet.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


@contextmanager
def open_table(path: Path, schema: pa.Schema, to_row: Callable[[Item], dict[str, Any]]) -> Iterator[TableWriter[Item]]:
    """A table to write in row groups; the file is there, whole, when the block ends well, and not before.

    Args:
        path: the file.
        schema: its columns.
        to_row: a row's values by column.
    """
    with atomic_stream(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as parquet:
        writer = TableWriter(path, parquet, schema, to_row)
        yield writer
        writer.flush()
        with writing(path):
            parquet.close()


def write_table(
    path: Path, schema: pa.Schema, to_row: Callable[[Item], dict[str, Any]], items: Iterable[Item]
) -> None:
    """Write a table, whole or not at all."""
    with open_table(path, schema, to_row) as writer:
        writer.add(items)


class StoredTable(Sequence[Item]):
    """The rows of a Parquet file, read from it as they are asked for: a row group at a time is in memory.

    Args:
        path: the file.
        schema: the columns to read; those that the file lacks are empty.
        from_row: makes an item of a row's values.
    """

    def __init__(self, path: Path, schema: pa.Schema, from_row: Callable[[dict[str, Any]], Item]) -> None:
        self._path, self._schema, self._from_row = path, schema, from_row
        metadata = pq.read_metadata(path)
        self._starts = [0]
        for group in range(metadata.num_row_groups):
            self._starts.append(self._starts[-1] + metadata.row_group(group).num_rows)
        self._held: tuple[int, list[Item]] = (-1, [])

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Item]:
        for group in range(len(self._starts) - 1):
            yield from self._group(group)

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return [self[each] for each in range(start, stop, step)]
            return list(islice(self._from(start), max(stop - start, 0)))
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(place)
        return next(self._from(place))

    def _from(self, start: int) -> Iterator[Item]:
        for group in range(len(self._starts) - 1):
            if self._starts[group + 1] > start:
                yield from self._group(group)[max(start - self._starts[group], 0) :]

    def _group(self, number: int) -> list[Item]:
        """One row group; the last one asked for is kept."""
        held, items = self._held
        if held != number:
            with pq.ParquetFile(self._path) as file:
                table = file.read_row_group(number)
            items = [self._from_row(row) for row in _with_columns(table, self._schema).to_pylist()]
            self._held = (number, items)
        return items


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, names=schema.names)
