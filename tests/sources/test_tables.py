"""Documents from tables: titles of every kind, and texts that are HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.config import DocumentsConfig
from multigrain.errors import MissingExtraError
from multigrain.sources import rich
from multigrain.sources.load import load_corpus, read_documents
from multigrain.sources.source import look_at_documents

BODY = (
    "<p>To reset it,&nbsp;open <b>Settings</b> &gt; <i>my_account</i>.</p><ul><li>Click it</li></ul>"
    "<p>It takes an hour.</p>"
)
SHOWN = "To reset it,\xa0open **Settings** > *my_account*.\n\n* Click it\n\nIt takes an hour."


def written(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / "articles.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def told(path: Path, **settings: Any) -> list[str]:
    return [note for note in look_at_documents(DocumentsConfig(path=path, **settings)).notes if "HTML" in note]


def test_numbers_are_titles(tmp_path: Path) -> None:
    values = [2024, 3.5, " Owls ", None, "", True, ["Owls"]]
    path = written(tmp_path, [{"title": value, "text": "They hunt."} for value in values])

    documents, _ = read_documents(DocumentsConfig(path=path))

    assert [each.title for each in documents] == ["2024", "3.5", "Owls", None, None, None, None]


def test_numbers_beside_missing_ones_are_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"title": [2024.0, float("nan"), None], "text": ["They hunt."] * 3}), path)

    documents, _ = read_documents(DocumentsConfig(path=path))

    assert [each.title for each in documents] == ["2024", None, None]


def test_texts_that_are_html_are_told_and_read_as_shown_where_asked(tmp_path: Path) -> None:
    rows = [{"id": "a", "title": "Reset &amp; recover", "body": BODY} for _ in range(12)]
    path = written(tmp_path, [{**row, "id": number} for number, row in enumerate(rows)])

    (note,) = told(path)
    assert "12 of 12 rows; set documents.text_format: html" in note
    plain, _ = read_documents(DocumentsConfig(path=path))
    assert {(each.title, each.text) for each in plain} == {("Reset &amp; recover", BODY)}

    assert told(path, text_format="html") == []
    pages, _ = read_documents(DocumentsConfig(path=path, text_format="html"))
    assert {(each.title, each.text) for each in pages} == {("Reset & recover", SHOWN)}


@pytest.mark.parametrize(
    ("title", "body", "found"),
    [
        (None, "<h1>Reset it</h1><p>Open it.</p>", ("Reset it", "Open it.")),
        ("Reset it", "<h2>Reset it</h2><p>Open it.</p>", ("Reset it", "Open it.")),
        ("Help", "<h1>Reset it</h1><p>Open it.</p>", ("Help", "# Reset it\n\nOpen it.")),
        ("Help", "Plain, a < b and\n\nR&D.", ("Help", "Plain, a < b and\n\nR&D.")),
    ],
)
def test_a_cell_is_read_as_a_file_is(
    tmp_path: Path, title: str | None, body: str, found: tuple[str | None, str]
) -> None:
    path = written(tmp_path, [{"title": title, "text": body}])

    documents, _ = read_documents(DocumentsConfig(path=path, text_format="html"))

    assert [(each.title, each.text) for each in documents] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "Use <p> for a paragraph, and close it by </p>.",
        "`<p>` begins a paragraph",
        "a < b, and b > c",
        "<T> void swap(T& a, T& b)",
        "<p begins it",
    ],
)
def test_texts_about_html_are_none(tmp_path: Path, text: str) -> None:
    assert told(written(tmp_path, [{"text": f"{text} {number}"} for number in range(12)])) == []


def test_html_in_few_rows_is_not_told(tmp_path: Path) -> None:
    rows = [{"text": BODY if number < 5 else f"They hunt, {number}."} for number in range(12)]
    assert told(written(tmp_path, rows)) == []


def test_without_the_reader_the_pip_line_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, [{"text": BODY}])
    monkeypatch.setitem(__import__("sys").modules, "markitdown", None)
    rich._page_reader.cache_clear()

    with pytest.raises(MissingExtraError, match=r'pip install .*\[documents\]"'):
        load_corpus(DocumentsConfig(path=path, text_format="html"), seed=1)
