"""Labels and scores of other tools' rows: what is a match, what is none, and what tells nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dataset.foreign_rows import read_all, text, written

from multigrain.dataset.export import convert
from multigrain.dataset.foreign import ForeignRow, read_foreign
from multigrain.errors import SourceError
from multigrain.storage.labels import find_labels
from multigrain.storage.reading import Reading
from multigrain.storage.rows import read_rows


@pytest.mark.parametrize("column", ["label", "score", "similarity", "Label"])
@pytest.mark.parametrize(("yes", "no"), [(1, 0), (True, False), ("1", "0"), (1.0, -1.0), (3, 0), (0.9, 0.2), (4.5, 1)])
def test_a_pair_that_its_label_calls_no_match_is_a_negative(tmp_path, column, yes, no) -> None:
    path = written(
        tmp_path / "a.jsonl",
        {"anchor": "q", "positive": "n", column: no},
        {"anchor": "q", "positive": "p", column: yes},
        {"anchor": "r", "positive": "m", column: no},
        {"anchor": "q", "positive": "x", column: None},
    )
    reading = Reading()

    (row,), _ = read_foreign(path, reading=reading)

    assert (row.query, row.positives, row.negatives) == ("q", ("p",), ("n",))
    assert row.scores == (() if float(yes).is_integer() and float(no).is_integer() else (float(yes), float(no)))
    assert (reading.rows, reading.kept, reading.joined, reading.dropped) == (4, 1, 1, 2)
    assert any(f"'{column}' calls 2 of 4 rows no match" in line for line in reading.lines("a"))


def test_labels_are_heeded_where_the_first_rows_have_none(tmp_path) -> None:
    path = written(
        tmp_path / "a.jsonl",
        {"query": "r", "positive": "unknown"},
        {"query": "q", "positive": "n", "label": 0},
        {"query": "q", "positive": "p", "label": 1},
    )
    reading = Reading()

    (row,), _ = read_foreign(path, reading=reading)

    assert (row.positives, row.negatives) == (("p",), ("n",))
    assert reading.dropped == 1, "a pair without a label is neither"
    assert find_labels(lambda: read_rows(path)) is not None


def test_a_label_of_few_rows_is_not_heeded(tmp_path) -> None:
    pairs = [{"query": f"q{n}", "positive": f"p{n}"} | ({"score": 1} if n == 5 else {}) for n in range(20)]
    path = written(tmp_path / "a.jsonl", *pairs)

    assert len(read_foreign(path)[0]) == 20
    assert find_labels(lambda: read_rows(path)) is None


def test_the_labels_of_ms_swift_are_heeded(tmp_path) -> None:
    def message(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    rows = [
        {"messages": message("q"), "positive_messages": [message(text)], "label": n} for n, text in enumerate("np")
    ]
    (row,), form = read_foreign(written(tmp_path / "a.jsonl", *rows))

    assert (row.positives, row.negatives, form) == (("p",), ("n",), "ms-swift")


def test_labels_on_no_scale_are_not_heeded_and_words_are_refused(tmp_path) -> None:
    pair = {"anchor": "q", "positive": "p"}
    reading = Reading()

    rows, _ = read_foreign(
        written(tmp_path / "a.jsonl", {**pair, "score": 23.5}, {**pair, "score": -7.25}), reading=reading
    )

    assert len(rows) == 2
    assert any("'score' not used: -7.25 to 23.5 is no scale" in line for line in reading.lines("a"))
    with pytest.raises(SourceError, match=r"b\.jsonl:1: 'label' is 'opposite', not a number: a label is 1"):
        read_foreign(written(tmp_path / "b.jsonl", {**pair, "label": "opposite"}))
    with pytest.raises(SourceError, match="no row is a match by its 'label'"):
        read_foreign(written(tmp_path / "c.jsonl", {**pair, "label": 0}))[0]


@pytest.mark.parametrize("column", ["answer", "positive", "response", "pos", "positives"])
@pytest.mark.parametrize("form", ["auto", "lists", "sentence-transformers"])
@given(texts=st.lists(text, min_size=1, max_size=4, unique=True), draw=st.data())
@settings(max_examples=15, deadline=None)
def test_a_list_of_labels_tells_the_positives_in_any_column(tmp_path_factory, column, form, texts, draw) -> None:
    labels = draw.draw(st.lists(st.sampled_from([0, 1]), min_size=len(texts), max_size=len(texts)).filter(any))
    row = {"query": "q", column: texts, "labels": labels}
    reading = Reading()

    (read,), _ = read_foreign(written(tmp_path_factory.mktemp("rows") / "a.jsonl", row), form, reading=reading)

    sides = [tuple(text for text, label in zip(texts, labels, strict=True) if label == side) for side in (1, 0)]
    assert (read.positives, read.negatives, read.scores) == (*sides, ())
    assert reading.unused == []


def test_of_a_list_with_scores_alone_the_first_is_the_positive_unless_its_name_is_in_the_plural(tmp_path) -> None:
    cases = [
        ({"answer": ["p", "a", "b"], "scores": [0.8, 0.1, 0.5]}, ("p",), ("a", "b"), (0.8, 0.1, 0.5)),
        ({"answer": ["a", "p"], "scores": [0.1, 0.5], "labels": [0, 1]}, ("p",), ("a",), (0.5, 0.1)),
        ({"docs": ["a", "p"], "scores": [0.1, 0.5], "labels": [0, 1]}, ("p",), ("a",), (0.5, 0.1)),
        ({"answer": [{"title": "t", "text": "p"}, "a"], "labels": [True, False]}, ("t p",), ("a",), ()),
        ({"positives": ["p", "p2"], "scores": [0.8, 0.7]}, ("p", "p2"), (), (0.8, 0.7)),
        ({"answer": ["p"], "positive_score": 0.8}, ("p",), (), (0.8,)),
    ]
    for number, (columns, positives, negatives, scores) in enumerate(cases):
        reading = Reading()
        path = written(tmp_path / f"{number}.jsonl", {"query": "q", **columns})
        (read,), _ = read_foreign(path, reading=reading)
        assert (read.positives, read.negatives, read.scores) == (positives, negatives, scores)
        assert reading.unused == []


def test_one_document_may_have_its_label_alone_and_a_row_may_have_nothing(tmp_path) -> None:
    one = {"query": "q", "documents": ["p"], "label": 1}
    several = {"query": "r", "documents": ["p2", "a"], "labels": [1, 0]}
    nothing = {"query": "s", "documents": None, "labels": None}

    (alone,), _ = read_foreign(written(tmp_path / "a.jsonl", one))
    (told,), _ = read_foreign(written(tmp_path / "b.jsonl", several, nothing))

    assert (alone.positives, alone.negatives) == (("p",), ())
    assert (told.positives, told.negatives) == (("p2",), ("a",))


@pytest.mark.parametrize("labels", [[1], [1, 0, 0], "1", None])
def test_a_list_that_is_not_of_the_texts_labels_tells_nothing(tmp_path, labels) -> None:
    row = {"query": "q", "answer": ["p", "p2"], "labels": labels}

    (read,), _ = read_foreign(written(tmp_path / "a.jsonl", row))

    assert (read.positives, read.negatives) == (("p", "p2"), ())


def test_similarities_that_call_no_row_of_a_query_no_match_are_told(tmp_path) -> None:
    scores = [0.857, 0.733, 0.73]
    told, untold = Reading(), Reading()

    rows, _ = read_foreign(
        written(tmp_path / "a.jsonl", *({"query": "q", "answer": f"p{s}", "score": s} for s in scores)), reading=told
    )
    read_foreign(
        written(tmp_path / "b.jsonl", *({"query": f"q{s}", "answer": f"p{s}", "score": s} for s in scores)),
        reading=untold,
    )

    assert len(rows) == 3
    (line,) = told.lines("a.jsonl")
    assert "'score' holds similarities from 0.73 to 0.857" in line
    assert "all 3 rows of 1 queries count as matches" in line
    assert "give labels instead, 1 for a match and 0 for none" in line
    assert not any("give labels" in line for line in untold.lines("b.jsonl")), "one row a query is no mined one"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("first", [True, False])
def test_labels_of_some_rows_alone_are_refused_where_a_column_holds_them(tmp_path, suffix, first) -> None:
    rows = [ForeignRow(1, "q", ("p",), ("n",), scores=(1.5, 0.5)), ForeignRow(2, "r", ("p",), ("n",))]

    with pytest.raises(SourceError, match="a label in every row or in none, and 1 of 2 rows have scores"):
        convert(rows if first else rows[::-1], tmp_path / f"a{suffix}", "sentence-transformers")
    assert list(tmp_path.iterdir()) == []


def test_inference_data_is_read_by_its_labels(tmp_path) -> None:
    labels = {"p": "entailment", "n": "contradiction", "open": "neutral", "unsure": "-"}
    rows = [{"gold_label": label, "sentence1": "q", "sentence2": text} for text, label in labels.items()]
    reading = Reading()
    (row,), _ = read_all(written(tmp_path / "snli.jsonl", *rows), reading)
    assert (row.query, row.positives, row.negatives) == ("q", ("p",), ("n",))
    assert (reading.kept, reading.joined, reading.dropped) == (1, 1, 2)
    (undecided,) = (reason.first for reason in reading.left_out.values())
    assert "'gold_label' is 'neutral', which decides neither" in undecided


@pytest.mark.parametrize("labels", [[0, 1, 2], ["0", "2", "-1"], [0, 2, None]])
def test_numbers_of_inference_classes_are_not_taken_for_grades(tmp_path, labels) -> None:
    rows = [{"sentence1": "q", "sentence2": f"p{n}", "label": label} for n, label in enumerate(labels)]
    with pytest.raises(SourceError, match="Write 'entailment', 'neutral' and 'contradiction'"):
        read_foreign(written(tmp_path / "a.jsonl", *rows))[0]

    graded = [{"query": "q", "text": f"p{n}", "label": label} for n, label in enumerate(labels)]
    read, _ = read_foreign(written(tmp_path / "b.jsonl", *graded))
    assert {row.query for row in read} == {"q"}, "of queries and passages they are grades"
