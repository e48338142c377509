from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain import parquet
from multigrain.errors import RunDirectoryError
from multigrain.parquet import StoredTable, write_table

SCHEMA = pa.schema([pa.field("number", pa.int64()), pa.field("word", pa.string())])


def _row(number: int) -> dict[str, object]:
    return {"number": number, "word": f"w{number}"}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredTable[int]:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    write_table(tmp_path / "t.parquet", SCHEMA, _row, range(34))
    return StoredTable(tmp_path / "t.parquet", SCHEMA, lambda row: int(row["number"]))


def test_a_stored_table_is_the_sequence_that_was_written(table: StoredTable[int]) -> None:
    there = list(range(34))

    assert list(table) == list(table) == there
    assert len(table) == 34
    assert table[0] == 0
    assert table[-1] == 33
    assert table[17] == 17
    for each in (
        slice(0, 7),
        slice(8, 25),
        slice(30, 99),
        slice(5, 5),
        slice(20, 3),
        slice(None, None, 9),
        slice(-4, None),
    ):
        assert list(table[each]) == there[each]
    with pytest.raises(IndexError):
        table[34]


def test_a_row_group_at_a_time_is_read(table: StoredTable[int], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, number, **more: read.append(number) or plain(self, number, **more),
    )

    assert [table[place] for place in (21, 22, 29)] == [21, 22, 29]
    assert read == [2]


def test_a_file_is_there_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"

    def rows() -> Iterator[int]:
        yield from range(9_000)
        assert not path.exists()
        raise OSError("a source of the rows")

    with pytest.raises(OSError, match="a source of the rows"):
        write_table(path, SCHEMA, _row, rows())

    assert list(tmp_path.iterdir()) == []

    write_table(path, SCHEMA, _row, ())
    assert len(StoredTable(path, SCHEMA, dict)) == 0
    assert list(StoredTable(path, SCHEMA, dict)) == []


def test_a_place_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(RunDirectoryError, match="cannot be written"):
        write_table(tmp_path / "file" / "t.parquet", SCHEMA, _row, range(3))
