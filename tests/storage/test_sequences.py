from __future__ import annotations

import gc
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.errors import RunDirectoryError
from multigrain.records import Document, Split
from multigrain.storage.sequences import DiskList, View

DOCUMENTS = st.builds(
    Document,
    id=st.text(max_size=8),
    text=st.text(max_size=200),
    title=st.none() | st.text(max_size=8),
    group=st.integers(-1, 2**40),
    split=st.sampled_from(Split),
)


@given(
    items=st.lists(DOCUMENTS, max_size=30),
    buffer_bytes=st.integers(1, 400),
    start=st.integers(-40, 40) | st.none(),
    stop=st.integers(-40, 40) | st.none(),
    step=st.sampled_from([None, 1, 2, -1, -3]),
)
def test_a_disk_list_is_the_sequence_that_was_appended(
    items: list[Document], buffer_bytes: int, start: int | None, stop: int | None, step: int | None
) -> None:
    records = DiskList(items[:10], buffer_bytes=buffer_bytes)
    for number, item in enumerate(items[10:]):
        records.append(item)
        assert records[10 + number] == item  # read while more is coming
    assert (len(records), list(records)) == (len(items), items)
    assert [records[place - len(items)] for place in range(len(items))] == items
    assert list(records[start:stop:step]) == items[start:stop:step]
    assert list(View(records, len_of)[start:stop:step]) == [len(item.text) for item in items[start:stop:step]]
    with pytest.raises(IndexError):
        records[len(items)]


def len_of(document: Document) -> int:
    return len(document.text)


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_texts_wait_on_the_disk_and_not_in_memory() -> None:
    tracemalloc.start()
    try:
        records = DiskList(f"{number} " + "x" * 10_000 for number in range(2_000))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert records[1_234].startswith("1234 x")
    assert used < 3e6  # of 20 million characters


def test_the_file_is_gone_with_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()  # what other tests have left open
    before = _open_files()
    records = DiskList(range(3))
    assert list(records) == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []  # it has no name
    assert _open_files() == before + 1
    del records
    gc.collect()
    assert _open_files() == before


def test_a_full_disk_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    records: DiskList[str] = DiskList()
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed with the list
    monkeypatch.setattr(records, "_file", full)
    records.append("x")
    with full, pytest.raises(RunDirectoryError, match=r"No space left on device.*free the disk"):
        records[0]
