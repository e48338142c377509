"""Complete stages at an address: whole or not there, taken by another directory, written by one run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from multigrain.errors import RunBusyError, RunDirectoryError
from multigrain.storage import objects
from multigrain.storage.objects import LOCK, ObjectFolder, hold_store
from multigrain.storage.parquet import open_table
from multigrain.storage.rows import read_rows
from multigrain.storage.rundir import RunDirectory

PLACE = "memory://bucket/run"
SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False)])


@pytest.fixture(autouse=True)
def empty_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    monkeypatch.setattr(objects, "_FIRST_WAIT", 0.0)
    files.store.clear()
    yield files
    files.store.clear()


def _completed(folder: Path, rows: int = 9, *, shard_rows: int = 4, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run with one complete stage: a table of shards, a journal, and a file beside them."""
    monkeypatch.setattr("multigrain.storage.parquet._SHARD_ROWS", shard_rows)
    run = RunDirectory(folder)
    with open_table(run.rows_path, SCHEMA, lambda name: {"id": name}) as table:
        table.add(f"row {number}" for number in range(rows))
    run.journal_path.write_bytes(b"stays here")
    run.heldout_queries_path.write_text("{}\n")
    run.finish("synthesis", "settings", {"written": rows}, 1.0)
    return run


def _published(run: RunDirectory) -> None:
    with hold_store(PLACE, run) as store:
        assert store is not None
        store.publish("synthesis")


def _restored(run: RunDirectory, stage: str = "synthesis", fingerprint: str = "settings") -> bool:
    with hold_store(PLACE, run) as store:
        assert store is not None
        return store.restore(stage, fingerprint)


def test_another_directory_takes_a_complete_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _completed(tmp_path / "first", monkeypatch=monkeypatch)
    _published(first)
    second = RunDirectory(tmp_path / "second")
    second.path.mkdir()

    assert not _restored(second, fingerprint="other settings")
    assert not _restored(second, "dataset")
    assert _restored(second)

    assert second.manifest("synthesis") == first.manifest("synthesis")
    assert [row.values["id"] for row in read_rows(second.rows_path)] == [f"row {number}" for number in range(9)]
    assert second.heldout_queries_path.read_text() == "{}\n"
    assert not second.journal_path.exists()
    assert [path.name for path in second.path.iterdir()] == ["synthesis"]


def test_a_smaller_table_replaces_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Any
) -> None:
    _published(_completed(tmp_path / "run", 9, monkeypatch=monkeypatch))
    _published(_completed(tmp_path / "run", 3, monkeypatch=monkeypatch))

    names = [path.rsplit("/", 1)[-1] for path in empty_store.find("/bucket/run/synthesis")]
    assert sorted(names) == ["files.json", "heldout_queries.jsonl", "manifest.json", "rows.parquet"]


def test_the_shards_there_are_read_as_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _published(_completed(tmp_path / "run", monkeypatch=monkeypatch))

    rows = list(read_rows(f"{PLACE}/synthesis/rows.parquet"))

    assert [row.values["id"] for row in rows] == [f"row {number}" for number in range(9)]


@pytest.mark.parametrize("broken_at", range(7))
def test_a_reader_sees_the_old_stage_the_new_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int, empty_store: Any
) -> None:
    """However far a publication comes, what is taken from there is of one completion."""
    _published(_completed(tmp_path / "run", 9, monkeypatch=monkeypatch))
    again = _completed(tmp_path / "run", 5, monkeypatch=monkeypatch)
    puts = 0

    class Stopped(BaseException):
        pass

    put = empty_store.pipe_file

    def break_off(path: str, raw: bytes, **options: Any) -> None:
        nonlocal puts
        puts += not path.endswith(LOCK)
        if puts > broken_at:
            raise Stopped
        put(path, raw, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(empty_store), "pipe_file", lambda _, *given, **named: break_off(*given, **named))
        stopped = False
        try:
            _published(again)
        except Stopped:
            stopped = True
    taken = RunDirectory(tmp_path / "taken")
    taken.path.mkdir()
    empty_store.rm_file("/bucket/run/lock.json") if empty_store.exists("/bucket/run/lock.json") else None
    there = _restored(taken)

    assert stopped or broken_at == 6
    if there:
        manifest = taken.manifest("synthesis")
        assert manifest is not None
        assert len(list(read_rows(taken.rows_path))) == manifest.counts["written"]


def test_an_object_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Any
) -> None:
    _published(_completed(tmp_path / "run", monkeypatch=monkeypatch))
    shard = "/bucket/run/synthesis/rows.parquet/part-00001.parquet"
    empty_store.pipe_file(shard, empty_store.cat_file(shard)[:-1])
    taken = RunDirectory(tmp_path / "taken")
    taken.path.mkdir()

    with pytest.raises(RunDirectoryError, match=r"part-00001.*not what was written"):
        _restored(taken)

    assert taken.manifest("synthesis") is None
    with pytest.raises(Exception, match=r"part-00001.parquet has \d+ bytes"):
        list(read_rows(f"{PLACE}/synthesis/rows.parquet"))


def test_a_second_writer_is_refused_until_the_first_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    with hold_store(PLACE, first):
        with pytest.raises(RunBusyError, match="is written by"), hold_store(PLACE, second):
            pass
        left = ObjectFolder(PLACE).read(LOCK)  # as a killed process leaves it
    assert left is not None
    assert ObjectFolder(PLACE).read(LOCK) is None

    ObjectFolder(PLACE).write(LOCK, left)
    with hold_store(PLACE, first):  # its own run directory goes on at once
        pass
    ObjectFolder(PLACE).write(LOCK, json.dumps({**json.loads(left), "renewed_at": time.time() - 1_000}).encode())
    with hold_store(PLACE, second):
        pass


def test_passing_failures_are_tried_again_and_lasting_ones_told(
    monkeypatch: pytest.MonkeyPatch, empty_store: Any
) -> None:
    put, failures = empty_store.pipe_file, 3

    def fail(_: Any, *given: Any, **named: Any) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ConnectionError("reset")
        put(*given, **named)

    monkeypatch.setattr(type(empty_store), "pipe_file", fail)
    ObjectFolder(PLACE).write("name", b"whole")
    assert ObjectFolder(PLACE).read("name") == b"whole"

    failures = 100
    with pytest.raises(RunDirectoryError, match=r"name: the store does not answer .*ConnectionError"):
        ObjectFolder(PLACE).write("name", b"other")
    assert ObjectFolder(PLACE).read("name") == b"whole"
