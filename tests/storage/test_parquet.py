from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import PairsConfig
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.mining.corpus import CorpusFiles
from multigrain.sources.pairs import pairs_fingerprint, read_pairs
from multigrain.storage import parquet, shards
from multigrain.storage.parquet import StoredTable, write_table
from multigrain.storage.rows import read_rows

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


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 4)
    monkeypatch.setattr(parquet, "_SHARD_ROWS", 10)


def _read(path: Path) -> StoredTable[int]:
    return StoredTable(path, SCHEMA, lambda row: int(row["number"]))


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@given(
    rows=st.integers(0, 90),
    group=st.integers(1, 9),
    shard=st.integers(1, 40),
    most=st.sampled_from([1, 900, parquet._SHARD_BYTES]),
    flushes=st.sets(st.integers(0, 90), max_size=4),
    places=st.lists(st.integers(-95, 95), max_size=8),
    slices=st.lists(
        st.builds(
            slice,
            st.none() | st.integers(-95, 95),
            st.none() | st.integers(-95, 95),
            st.none() | st.integers(1, 7) | st.integers(-7, -1),
        ),
        max_size=8,
    ),
)
@settings(max_examples=80, deadline=None)
def test_any_table_is_the_sequence_that_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    group: int,
    shard: int,
    most: int,
    flushes: set[int],
    places: list[int],
    slices: list[slice],
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    there = list(range(rows))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_GROUP_ROWS", group), ("_SHARD_ROWS", shard), ("_SHARD_BYTES", most)):
            patch.setattr(parquet, name, value)
        with parquet.open_table(path, SCHEMA, _row) as writer:
            for each in there:
                writer.add([each])
                if each in flushes:
                    writer.flush()
    table = _read(path)

    assert writer.rows == len(table) == rows
    assert list(table) == list(table) == there
    for place in places:
        if -rows <= place < rows:
            assert table[place] == there[place]
        else:
            with pytest.raises(IndexError):
                table[place]
    for each in slices:
        assert list(table[each]) == there[each]
    if rows <= shard and most == parquet._SHARD_BYTES:
        assert path.is_file()
    elif rows > shard:
        assert path.is_dir()
    assert pq.read_table(path).column("number").to_pylist() == there
    shards.verify_table(path)
    assert _leftovers(path.parent) == []


@pytest.mark.usefixtures("small_shards")
def test_the_manifest_s_figures_are_those_of_the_files(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(34))
    manifest = json.loads((path / "_manifest.json").read_text(encoding="utf-8"))
    files = sorted(path.glob("*.parquet"))

    assert (manifest["format"], manifest["rows"]) == (1, 34)
    assert manifest["columns"] == ["number: int64", "word: string"]
    assert [shard["file"] for shard in manifest["shards"]] == [path.name for path in files]
    assert [path.name for path in files] == [f"part-{number:05}.parquet" for number in range(4)]
    assert [shard["rows"] for shard in manifest["shards"]] == [10, 10, 10, 4]
    for shard, file in zip(manifest["shards"], files, strict=True):
        assert shard["rows"] == pq.read_metadata(file).num_rows
        assert shard["bytes"] == file.stat().st_size
        assert shard["crc32"] == f"{zlib.crc32(file.read_bytes()):08x}"
    assert shards.table_files(path) == files


@pytest.mark.usefixtures("small_shards")
def test_other_tools_read_a_folder_by_its_name(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(34))

    assert pandas.read_parquet(path)["number"].tolist() == list(range(34))
    assert pq.read_table(path, columns=["word"])["word"].to_pylist() == [f"w{number}" for number in range(34)]


@pytest.mark.usefixtures("small_shards")
def test_a_table_takes_the_place_of_whatever_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"

    for rows in (3, 34, 25, 0, 12, 7):
        write_table(path, SCHEMA, _row, range(rows))
        assert list(_read(path)) == list(range(rows))
        assert path.is_dir() == (rows > 10)
        assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("before", [None, 3, 34])
def test_a_write_that_raises_leaves_what_was_there(tmp_path: Path, before: int | None) -> None:
    path = tmp_path / "t.parquet"
    if before is not None:
        write_table(path, SCHEMA, _row, range(before))

    def rows() -> Iterator[int]:
        yield from range(25)
        raise OSError("a source of the rows")

    with pytest.raises(OSError, match="a source of the rows"):
        write_table(path, SCHEMA, _row, rows())

    if before is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert list(_read(path)) == list(range(before))
        assert _leftovers(tmp_path) == []


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("before", [3, 34])
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_is_said_in_a_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, step: str
) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(before))
    if step == "fsync":
        monkeypatch.setattr(parquet.os, "fsync", _full)
    else:
        plain = Path.rename
        monkeypatch.setattr(Path, "rename", lambda self, to: _full() if _is_new(self) else plain(self, to))

    with pytest.raises(RunDirectoryError, match=r"t\.parquet: cannot be written \(No space left on device\)"):
        write_table(path, SCHEMA, _row, range(40))

    monkeypatch.undo()
    assert list(_read(path)) == list(range(before))
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def _is_new(path: Path) -> bool:
    """Whether it is the folder that is being written, and not the table that is moved aside."""
    return path.name.startswith(".t.parquet.") and "discarded" not in path.name


_LIMITED = """
import resource, signal, sys
from pathlib import Path
import pyarrow as pa
from multigrain.config import PairsConfig
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.mining.corpus import CorpusFiles
from multigrain.storage.parquet import write_table

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
schema = pa.schema([pa.field("number", pa.int64())])
try:
    write_table(Path(sys.argv[1]), schema, lambda number: {"number": number * 7_919**4 % 2**61}, range(30_000))
except RunDirectoryError as error:
    print(error)
"""


def test_a_disk_that_fills_while_rows_are_written(tmp_path: Path) -> None:
    """A limit on the size of files is the one full disk that a test can have: the kernel itself refuses the bytes."""
    write_table(tmp_path / "t.parquet", SCHEMA, _row, range(3))

    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "t.parquet")], capture_output=True, text=True, check=False
    )

    assert "t.parquet: cannot be written (File too large); nothing is half-written" in done.stdout
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert list(_read(tmp_path / "t.parquet")) == [0, 1, 2]
    assert _leftovers(tmp_path) == []


def _write_for_ever(path: Path) -> None:
    parquet._GROUP_ROWS, parquet._SHARD_ROWS = 4, 10  # type: ignore[misc]
    write_table(path, SCHEMA, _row, iter(int, 1))


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("before", [3, 34])
def test_a_process_that_is_killed_while_it_writes_leaves_what_was_there(tmp_path: Path, before: int) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(before))
    process = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(path,))
    process.start()
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob(".t.parquet.*/part-00002.parquet")):
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()

    assert list(_read(path)) == list(range(before))
    write_table(path, SCHEMA, _row, range(50))
    assert list(_read(path)) == list(range(50))


def _without_manifest(path: Path) -> None:
    (path / "_manifest.json").unlink()


def _without_shard(path: Path) -> None:
    (path / "part-00001.parquet").unlink()


def _cut_shard(path: Path) -> None:
    shard = path / "part-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-7])


def _strange_shard(path: Path) -> None:
    shutil.copy(path / "part-00001.parquet", path / "part-00009.parquet")


def _manifest_of(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / "_manifest.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without_manifest, "a folder without _manifest.json"),
        (_without_shard, "shard part-00001.parquet is missing"),
        (_cut_shard, r"shard part-00002.parquet has \d+ bytes, and its manifest says \d+"),
        (_strange_shard, "part-00009.parquet is not in its manifest"),
        (lambda path: (path / "_manifest.json").write_text("{"), "_manifest.json cannot be understood"),
        (_manifest_of(shards=[{"file": "part-00000.parquet"}]), "_manifest.json cannot be understood"),
        (_manifest_of(shards=7), "_manifest.json cannot be understood"),
        (_manifest_of(format=2), "_manifest.json is of format 2; this version reads 1"),
        (_manifest_of(rows=35), "_manifest.json does not agree with itself"),
        (
            _manifest_of(shards=[{"file": "../t.parquet", "rows": 34, "bytes": 3, "crc32": ""}]),
            "_manifest.json does not agree with itself",
        ),
    ],
)
def test_a_folder_that_is_not_what_was_written_is_refused_in_a_line(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(34))
    damage(path)

    for read in (_read, shards.table_files, shards.verify_table):
        with pytest.raises(RunDirectoryError, match=rf"t\.parquet: .*{words}.*: run the stage that wrote it again$"):
            read(path)


@pytest.mark.usefixtures("small_shards")
def test_a_shard_that_changed_and_kept_its_size_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(34))
    shard = path / "part-00002.parquet"
    raw = bytearray(shard.read_bytes())
    raw[10] ^= 1
    shard.write_bytes(raw)

    with pytest.raises(RunDirectoryError, match=r"shard part-00002\.parquet is not what was written"):
        shards.verify_table(path)
    shard.write_bytes(b"x" * len(raw))
    with pytest.raises(RunDirectoryError, match=r"part-00002\.parquet: cannot be read"):
        list(_read(path))
    shutil.copy(path / "part-00003.parquet", shard)
    _manifest_of(
        shards=[
            {**each, "bytes": shard.stat().st_size} if each["file"] == shard.name else each
            for each in json.loads((path / "_manifest.json").read_text())["shards"]
        ]
    )(path)
    with pytest.raises(RunDirectoryError, match="holds 4 rows, and the table's manifest says 10"):
        list(_read(path))


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", SCHEMA, _row, range(3))
    asked = pa.schema([SCHEMA.field("word"), pa.field("later", pa.string())])

    assert list(StoredTable(tmp_path / "t.parquet", asked, dict)) == [
        {"word": f"w{number}", "later": None} for number in range(3)
    ]


@pytest.mark.usefixtures("small_shards")
def test_a_corpus_is_read_shard_by_shard_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "in" / "b.parquet"
    write_table(path, SCHEMA, _row, range(34))
    write_table(tmp_path / "in" / "a.parquet", SCHEMA, _row, range(5))
    beside = [f"w{number}" for number in range(5)]
    words = [f"w{number}" for number in range(34)]

    for place, texts in ((path, words), (path.parent, beside + words), (f"file://{path}", words)):
        corpus = CorpusFiles((str(place),), field="word")
        assert list(corpus) == texts
        assert corpus.pick({0, 4}) == {0: texts[0], 4: texts[4]}
    (path / "part-00001.parquet").unlink()
    for place in (path, path.parent, f"file://{path}"):
        with pytest.raises(SourceError, match=r"b\.parquet: shard part-00001\.parquet is missing"):
            list(CorpusFiles((str(place),), field="word"))


@pytest.mark.usefixtures("small_shards")
def test_rows_of_ones_own_may_lie_in_shards(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, _row, range(34))

    assert [row.values for row in read_rows(path)] == [_row(number) for number in range(34)]
    assert [row.place for row in read_rows(path)][::33] == [f"{path}:row 1", f"{path}:row 34"]
    pairs = PairsConfig.model_validate({"path": path, "query_field": "word", "positive_field": "word"})
    before = pairs_fingerprint(pairs)
    assert len(read_pairs(pairs).positives) == 34
    write_table(path, SCHEMA, _row, range(35))
    assert pairs_fingerprint(pairs) != before
    _cut_shard(path)
    with pytest.raises(SourceError, match=r"shard part-00002\.parquet has"):
        list(read_rows(path))
    _without_manifest(path)
    write_table(path / "part-00002.parquet", SCHEMA, _row, range(2))
    assert len(list(read_rows(path))) == 27  # somebody else's folder: it says nothing about itself
