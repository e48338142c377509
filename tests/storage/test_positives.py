"""The column of a positive: never the query's, and a context only where it holds text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from multigrain.config import PairsConfig
from multigrain.dataset.foreign import read_foreign
from multigrain.errors import SourceError
from multigrain.mining.job import read_pairs as read_pairs_to_mine
from multigrain.sources.pairs import read_pairs
from multigrain.storage.reading import Reading
from multigrain.tools.labelled_input import look_for_labels


def write_jsonl(path: Path, values: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("query", "positive"), [("context", "response"), ("Context", "answer"), ("text", "sentence2")]
)
def test_the_column_chosen_for_the_query_is_never_the_positive(tmp_path: Path, query: str, positive: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{query: f"asked {n}", positive: f"told {n}"} for n in range(2)])

    table = read_pairs(PairsConfig(path=path, query_field=query))
    mined = read_pairs_to_mine(path, query, None)

    assert [words for words, _ in table.positives.values()] == list(mined.queries) == ["asked 0", "asked 1"]
    assert [document.text for document in table.documents] == ["told 0", "told 1"]
    assert mined.positives == (("told 0",), ("told 1",))


def test_the_column_chosen_for_the_positive_is_never_the_query(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "told", "sentence1": "asked"}])

    assert read_pairs_to_mine(path, None, "question").queries == ("asked",)
    assert list(read_pairs(PairsConfig(path=path, positive_field="question")).positives) == ["asked"]


def test_a_table_with_nothing_but_the_query_has_no_positive(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"context": "asked"}])

    with pytest.raises(SourceError, match="no column with the positive"):
        read_pairs(PairsConfig(path=path, query_field="context"))
    with pytest.raises(SourceError, match="no column with the positive"):
        read_pairs_to_mine(path, "context", None)


@pytest.mark.parametrize(
    ("context", "is_text"),
    [
        ({"title": ["T"], "sentences": [["one", "two"]]}, False),
        ([["T", ["one", "two"]]], False),
        ([{"title": "T", "sentences": ["one"]}], False),
        (7, False),
        ("  ", False),
        ("", False),
        ([], False),
        (["", " "], False),
        (None, False),
        ("a passage", True),
        (["a passage"], True),
        ([{"text": "a passage"}], True),
    ],
)
@pytest.mark.parametrize("name", ["context", "contexts"])
def test_a_context_goes_before_an_answer_only_where_it_holds_text(
    tmp_path: Path, name: str, context: object, is_text: bool
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": "short", name: context}])
    reading = Reading()
    wanted = "a passage" if is_text else "short"

    (row,), _ = read_foreign(path, reading=reading)
    table = read_pairs(PairsConfig(path=path))
    mined = read_pairs_to_mine(path, None, None)

    assert row.positives == mined.positives[0] == (wanted,)
    assert [document.text for document in table.documents] == [wanted]
    for notes in (reading.lines("a.jsonl"), table.notes, mined.notes):
        remarked = f"a.jsonl: where {name!r} holds no text, 'answer' is the positive"
        unused = f"a.jsonl: column {name!r} not used"
        assert list(notes) == (["a.jsonl: column 'answer' not used"] if is_text else [remarked, unused])


def test_rows_with_and_without_a_context_all_have_a_positive(tmp_path: Path) -> None:
    values = [
        {"question": "q0", "answer": "a0", "context": "c0"},
        {"question": "q1", "answer": "a1", "context": ""},
        {"question": "q2", "answer": "", "context": "c2"},
        {"question": "q3", "answer": "", "context": ""},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", values)

    table = read_pairs(PairsConfig(path=path))

    assert [document.text for document in table.documents] == ["c0", "a1", "c2"]
    assert table.incomplete == 1
    assert [row.positives for row in read_foreign(path)[0]] == [("c0",), ("a1",), ("c2",)]


def test_init_names_the_column_that_the_run_takes(tmp_path: Path) -> None:
    context = {"title": ["T"], "sentences": [["one", "two"]]}
    values = [{"question": f"q{n}", "answer": f"a{n}", "context": context} for n in range(12)]

    found = look_for_labels(write_jsonl(tmp_path / "a.jsonl", values), shown="a.jsonl")

    assert found is not None
    assert "the columns 'question' and 'answer' are taken for queries and their answers" in found.notes[0]
