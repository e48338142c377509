"""Folders with files that are called texts and are none: named and counted, or skipped."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.errors import SourceError
from multigrain.sources.files import files_fingerprint, table_kind
from multigrain.sources.folder import read_folder
from multigrain.storage.rows import read_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.txt").write_text("A text.\n")
    (tmp_path / "image.md").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff")
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    (tmp_path / "link.pdf").symlink_to(tmp_path / "gone.pdf")
    (tmp_path / "nul.txt").write_bytes(b"a\0b")
    return tmp_path


def test_the_first_is_named_and_the_others_counted(folder: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_folder(folder, unreadable="refuse")

    said = str(caught.value)
    assert said.startswith(f"{folder / 'image.md'}: not text, ")
    assert "; 3 more cannot be read: latin.txt, link.pdf, nul.txt; " in said
    assert said.endswith("documents.unreadable: skip leaves them all out")


@pytest.mark.parametrize(
    ("kept", "words"),
    [("latin.txt", "not UTF-8 "), ("link.pdf", "a link to nothing"), ("nul.txt", "not text")],
)
def test_each_kind_has_its_own_words(folder: Path, kept: str, words: str) -> None:
    for path in folder.iterdir():
        if path.name not in (kept, "good.txt"):
            path.unlink()
    with pytest.raises(SourceError, match=words) as caught:
        read_folder(folder, unreadable="refuse")
    assert str(caught.value).endswith(", or set documents.unreadable: skip")


def test_all_of_them_can_be_skipped(folder: Path) -> None:
    documents, skipped = read_folder(folder, unreadable="skip")

    assert ([each.id for each in documents], skipped) == (["good.txt"], 4)
    assert files_fingerprint(folder)


@pytest.mark.parametrize("name", ["~$report.docx", "~$notes.md", ".~lock.report.docx#", "inside/~$page.html"])
def test_lock_files_of_office_programs_are_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.md").write_text("# Owls\n\nThey hunt at night.")
    (tmp_path / name).write_bytes(b"\x08Somebody\x00\xff")

    documents, skipped = read_folder(tmp_path, unreadable="refuse")

    assert ([document.id for document in documents], skipped) == (["a.md"], 0)


def test_folders_behind_links_are_read_and_watched(tmp_path: Path) -> None:
    docs, shared = tmp_path / "docs", tmp_path / "shared"
    docs.mkdir()
    shared.mkdir()
    (docs / "a.txt").write_text("Owls hunt at night.")
    (shared / "b.txt").write_text("Newts hunt in ponds.")
    (docs / "more").symlink_to("../shared")
    (docs / "loop").symlink_to(".")

    documents, _ = read_folder(docs, unreadable="refuse")
    assert [document.id for document in documents] == ["a.txt", "more/b.txt"]

    before = files_fingerprint(docs)
    (shared / "c.txt").write_text("Pines do not hunt.")
    assert files_fingerprint(docs) != before


def test_a_table_goes_on_behind_a_link(tmp_path: Path) -> None:
    table, shared = tmp_path / "table", tmp_path / "shared"
    table.mkdir()
    shared.mkdir()
    for path, text in ((table / "a.parquet", "Owls"), (shared / "b.parquet", "Newts")):
        pq.write_table(pa.table({"text": [text]}), path)
    (table / "more").symlink_to("../shared")

    assert table_kind(table) == "parquet"
    assert [row.values["text"] for row in read_rows(table)] == ["Owls", "Newts"]
