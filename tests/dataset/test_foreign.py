"""Other tools' files: read, written, and refused with the line where they are wrong."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dataset.foreign_rows import read_all, text, written

from multigrain.dataset.export import convert, export_examples
from multigrain.dataset.foreign import FORMATS, ForeignRow, known_format, read_foreign
from multigrain.errors import ConfigError, SourceError
from multigrain.records import LEVELS, GradedExample, Negative, Origin, Passage, ScoreScale
from multigrain.storage.reading import Reading

ROWS = {
    "sentence-transformers": {
        "anchor": "q",
        "positive": "p",
        "negative_1": "a",
        "negative_2": "b",
        "negative_10": "c",
    },
    "flagembedding": {"query": "q", "pos": ["p"], "neg": ["a", "b", "c"], "pos_scores": [0.9], "prompt": "x"},
    "tevatron": {
        "query_id": "7",
        "query": "q",
        "positive_passages": [{"docid": "1", "title": "", "text": "p"}],
        "negative_passages": [{"docid": "2", "title": None, "text": "a"}, {"text": "b"}, {"docid": "4", "text": "c"}],
    },
    "ms-swift": {
        "messages": [{"role": "user", "content": "q"}],
        "positive_messages": [[{"role": "user", "content": "p"}]],
        "negative_messages": [[{"role": "user", "content": text}] for text in "abc"],
    },
}
EARLIER_SWIFT = {"query": "q", "response": "p", "rejected_response": ["a", "b", "c"]}
several = st.lists(text, min_size=1, max_size=3).map(tuple)
foreign = st.builds(ForeignRow, st.just(1), text, several, st.just(()) | several)


@pytest.mark.parametrize(("form", "row"), [*ROWS.items(), ("ms-swift", EARLIER_SWIFT)])
def test_every_form_is_told_by_its_fields_and_read(tmp_path, form, row) -> None:
    (read,), read_as = read_foreign(written(tmp_path / "rows.jsonl", row))

    assert read_as == form
    assert (read.query, read.positives, read.negatives) == ("q", ("p",), ("a", "b", "c"))
    assert read.id == ("7" if form == "tevatron" else None)


@pytest.mark.parametrize(
    ("form", "field", "value", "words"),
    [
        ("flagembedding", "neg", "a text", "`neg` must be a list of texts, got a text 'a text'"),
        ("flagembedding", "pos", "a text", "`pos` must be a list of texts, got a text"),
        ("flagembedding", "neg", ["a", 3], "`neg` must hold texts, got int '3'"),
        ("flagembedding", "neg", ["a", None], "`neg` must hold texts, got nothing"),
        ("flagembedding", "query", ["q"], r"`query` must be a text, got list"),
        ("tevatron", "negative_passages", "a text", "must be a list of passages, got a text"),
        ("tevatron", "positive_passages", ["a text"], "must hold objects with a `text`"),
        ("ms-swift", "negative_messages", "a text", "must be a list of conversations, got a text"),
        ("ms-swift", "negative_messages", ["a text"], "must be a list of .role, content. messages"),
        ("sentence-transformers", "negative_2", [7], "`negative_2` must hold texts, got int '7'"),
        ("sentence-transformers", "positive", 7, "`positive` must be a text, got int '7'"),
        ("ms-swift", "positive_messages", [[{"role": "user", "content": ["x"]}]], "content is no text"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_with_its_line(tmp_path, form, field, value, words) -> None:
    path = written(tmp_path / "rows.jsonl", ROWS[form], {**ROWS[form], field: value})

    with pytest.raises(SourceError, match=words) as failure:
        read_foreign(path)
    assert f"{path}:2:" in str(failure.value)


def test_an_earlier_ms_swift_text_where_a_list_belongs_is_an_error_too(tmp_path) -> None:
    with pytest.raises(SourceError, match=r"rows\.jsonl:1: `rejected_response` must be a list"):
        read_foreign(written(tmp_path / "rows.jsonl", {**EARLIER_SWIFT, "rejected_response": "a"}))


def test_what_is_of_no_known_form_says_which_there_are(tmp_path) -> None:
    with pytest.raises(SourceError, match=r"columns 'a', 'b' are those of no known form.*flagembedding"):
        read_foreign(written(tmp_path / "rows.jsonl", {"a": 1, "b": 2}))
    with pytest.raises(SourceError, match="no row in it"):
        read_foreign(written(tmp_path / "empty.jsonl"))
    with pytest.raises(SourceError, match="no such file"):
        read_foreign(tmp_path / "missing.jsonl")
    with pytest.raises(ConfigError, match="did you mean 'flagembedding'"):
        known_format("flagembeding")


def example(number: int) -> GradedExample:
    negatives = tuple(
        Negative(f"negative {number} {int(level)}", level, Origin.WRITTEN, 0.1 * int(level), level) for level in LEVELS
    )
    return GradedExample(f"r{number}", "d", f"query {number}", f"positive {number}", negatives, 0.75)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_what_is_exported_is_read_back_as_it_was(tmp_path, form, suffix) -> None:
    examples = [example(number) for number in range(3)]
    path = tmp_path / f"rows{suffix}"
    possible = {
        "multigrain": [".parquet"],
        "lists": [".jsonl", ".parquet"],
        "sentence-transformers": [".jsonl", ".csv", ".parquet"],
    }
    if suffix not in possible.get(form, [".jsonl"]):
        with pytest.raises(SourceError, match=r"\.jsonl|\.parquet"):
            export_examples(examples, path, form)
        return
    export_examples(examples, path, form)

    rows, read_as = read_foreign(path)

    assert read_as == ("sentence-transformers" if form == "lists" else form)
    assert [(row.query, row.positives, row.negatives) for row in rows] == [
        (row.query, (row.positive,), tuple(negative.text for negative in row.negatives)) for row in examples
    ]


@given(row=st.lists(text, min_size=3, max_size=3), extra=st.lists(text, min_size=1, max_size=3), at=st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_a_csv_row_with_more_cells_than_columns_is_refused_with_its_line(tmp_path_factory, row, extra, at) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    good = ["why, and how", "thus, and so", "not thus"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["anchor", "positive", "negative"], *[good] * at, [*row, *extra]])

    with pytest.raises(SourceError, match=r"csv:\d+: more cells than columns; put texts with commas in quotes"):
        read_foreign(path)


@pytest.mark.parametrize("form", ["flagembedding", "tevatron", "ms-swift"])
@given(rows=st.lists(foreign, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_texts_survive_the_forms_that_hold_lists(tmp_path_factory, form, rows) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    convert(rows, path, form)

    read, _ = read_foreign(path)

    assert [(row.query, row.positives, row.negatives) for row in read] == [
        (row.query, row.positives, row.negatives) for row in rows
    ]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "text"]), inner),
    max_leaves=6,
)
sound_rows = st.sampled_from(
    [
        {"anchor": "q", "positive": "p", "negative": "n"},
        {"query": "q", "pos": ["p"], "neg": ["n"]},
        {"query": "q", "positive_passages": [{"docid": "1", "title": "", "text": "p"}], "negative_passages": []},
        {"messages": [{"role": "user", "content": "q"}], "positive_messages": [[{"role": "user", "content": "p"}]]},
        {"query": "q", "response": "p", "rejected_response": ["n"]},
    ]
)


def rows_or_refusal(path: Path, form: str, reading: Reading) -> list[ForeignRow] | str:
    try:
        return read_foreign(path, form, reading=reading)[0]
    except SourceError as error:
        return str(error)


@given(sound=sound_rows, place=st.integers(0, 2), value=json_values, form=st.sampled_from(["auto", *FORMATS[:4]]))
@settings(max_examples=200, deadline=None)
def test_any_value_at_all_is_read_as_texts_or_refused_in_one_line(tmp_path_factory, sound, place, value, form) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    changed = {name: value if place == number else old for number, (name, old) in enumerate(sound.items())}
    path.write_text(f"{json.dumps(sound)}\n{json.dumps(changed)}\n", encoding="utf-8")

    reading = Reading()
    outcome = rows_or_refusal(path, form, reading)

    if isinstance(outcome, str):
        assert outcome.startswith(f"{path}:")
        assert "\n" not in outcome
    else:
        assert len(outcome) + reading.dropped == 2
        assert all(row.positives for row in outcome)
        texts = [text for row in outcome for text in (row.query, *row.positives, *row.negatives)]
        assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize(
    ("columns", "negatives"),
    [
        ({"hard_negatives": ["a", "b"]}, ("a", "b")),
        ({"negatives": ["a"]}, ("a",)),
        ({"negative1": "a", "negative2": "b"}, ("a", "b")),
        ({"neg_2": "b", "neg_1": "a"}, ("a", "b")),
        ({"Hard Negative 1": "a"}, ("a",)),
        ({"neg": ["a"], "negative_passages": [{"title": "t", "text": "b"}]}, ("a", "t b")),
        ({"hard_negative_ctxs": [{"title": "", "text": "a"}], "negative_ctxs": []}, ("a",)),
        ({"rejected": "a"}, ("a",)),
        ({"negatives": ["a", "", None], "negative_3": " "}, ("a",)),
    ],
)
@pytest.mark.parametrize("query", ["query", "anchor", "question", "Sentence1"])
def test_negatives_are_read_under_every_usual_name_and_of_any_number(tmp_path, query, columns, negatives) -> None:
    reading = Reading()

    (read,), _ = read_foreign(written(tmp_path / "a.jsonl", {query: "q", "positive": "p", **columns}), reading=reading)

    assert (read.query, read.positives, read.negatives) == ("q", ("p",), negatives)
    assert reading.unused == []


def test_a_list_in_a_cell_of_csv_is_read_as_it_is_printed(tmp_path) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        lists = [str(["a", "it's b"]), json.dumps(["a", "b"]), "[1] is a note", "x"]
        csv.writer(stream).writerows([["anchor", "positive", "negatives"], *(["q", "p", cell] for cell in lists)])

    rows, _ = read_foreign(tmp_path / "a.csv")

    assert [row.negatives for row in rows] == [("a", "it's b"), ("a", "b"), ("[1] is a note",), ("x",)]


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"query": "q", "response": "p", "negatives": ["n"]}, "sentence-transformers"),
        ({"query": "q", "response": "p", "rejected_response": ["n"]}, "ms-swift"),
        ({"query": "q", "pos": "p", "neg": "n"}, "sentence-transformers"),
        ({"query": "q", "pos": ["p"], "neg": ["n"]}, "flagembedding"),
    ],
)
def test_names_that_two_forms_share_are_told_apart_by_the_rest(tmp_path, row, form) -> None:
    (read,), found = read_foreign(written(tmp_path / "a.jsonl", row))

    assert found == form
    assert (read.query, read.positives, read.negatives) == ("q", ("p",), ("n",))


@pytest.mark.parametrize("answer", ["answer", "response"])
@pytest.mark.parametrize("query", ["query", "question"])
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("positive_ctxs", [{"title": "", "text": "p"}]),
        ("positive_passages", [{"docid": "1", "title": "", "text": "p"}]),
        ("passage", "p"),
        ("contexts", ["p"]),
    ],
)
def test_a_passage_goes_before_the_answer_that_stands_in_it(tmp_path, query, answer, column, cell) -> None:
    row = {query: "who wrote hamlet", answer: "Shakespeare", column: cell}
    negatives = {"positive_passages": "negative_passages"}.get(column, "hard_negative_ctxs")
    row |= {negatives: [{"docid": "2", "title": "", "text": "n"}]} if isinstance(cell, list) else {}

    (read,), _ = read_foreign(written(tmp_path / "a.jsonl", row))

    assert (read.query, read.positives) == ("who wrote hamlet", ("p",))
    assert read.negatives == (("n",) if isinstance(cell, list) else ())


def test_an_answer_is_the_positive_where_no_passage_is_named_one(tmp_path) -> None:
    rows = [{"query": "q", "response": "p", "answer": "a"}, {"query": "q", "answer": "p", "document": "manual.pdf"}]

    found = [read_foreign(written(tmp_path / f"{n}.jsonl", row))[0][0].positives for n, row in enumerate(rows)]

    assert found == [("p",), ("p",)]


def test_scores_stay_with_the_passages_that_they_are_of(tmp_path) -> None:
    pair = {"anchor": "q", "positive": "p"}
    cases = [
        ({**pair, "negative_1": "a", "negative_2": "b", "scores": [0.9, 0.2, 0.1]}, (0.9, 0.2, 0.1)),
        ({**pair, "negative": "a", "positive_score": 0.9, "negative_score": 0.2}, (0.9, 0.2)),
        ({"query": "q", "pos": ["p"], "neg": ["a", "b"], "pos_scores": [5], "neg_scores": [2, 1]}, (5, 2, 1)),
        ({"anchor": "q", "documents": ["p", "a"], "scores": [0.9, 0.2]}, (0.9, 0.2)),
        ({"anchor": "q", "documents": ["a", "p", "b"], "labels": [0, 1, 0]}, ()),
        ({**pair, "negative": "a", "label": 3.5}, ()),
    ]
    for number, (row, scores) in enumerate(cases):
        reading = Reading()
        (read,), _ = read_foreign(written(tmp_path / f"{number}.jsonl", row), reading=reading)
        assert (read.query, read.positives, read.scores) == ("q", ("p",), scores)
        assert reading.unused == (["label"] if "label" in row else [])


@pytest.mark.parametrize("scores", ["score", "scores", "label", "labels", "teacher_scores"])
def test_scores_that_are_carried_over_are_not_called_unused(tmp_path, scores) -> None:
    reading = Reading()
    row = {"query": "q", "answer": "p", "negative_1": "a", "negative_2": "b", scores: [0.9, 0.5, 0.4]}

    (read,), _ = read_foreign(written(tmp_path / "a.jsonl", row), reading=reading)

    assert read.scores == (0.9, 0.5, 0.4)
    assert list(reading.lines("a.jsonl")) == []


def test_rows_without_a_query_or_a_positive_are_left_out_and_counted_and_unused_columns_named(tmp_path) -> None:
    pair = {"anchor": "q", "positive": "p", "url": "x"}
    path = written(tmp_path / "a.jsonl", pair, {**pair, "anchor": " "}, {**pair, "positive": None}, {"anchor": "q"})
    reading = Reading()

    rows, _ = read_foreign(path, reading=reading)

    assert len(rows) == reading.kept == 1
    assert list(reading.lines("a.jsonl")) == [
        f"a.jsonl: 1 of 4 rows left out, no query; the first is {path}:2: no query",
        f"a.jsonl: 2 of 4 rows left out, no positive; the first is {path}:3: no positive",
        "a.jsonl: column 'url' not used",
    ]
    with pytest.raises(SourceError, match=r"none of 1 rows has both a query and a positive; .*b\.jsonl:1: no query"):
        read_foreign(written(tmp_path / "b.jsonl", {**pair, "anchor": ""}))


def test_scores_go_where_the_form_has_a_place_for_them(tmp_path) -> None:
    export_examples([example(1)], tmp_path / "rows.jsonl", "flagembedding")

    value = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8"))

    assert value["pos_scores"] == [0.75]
    assert value["neg_scores"] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(("form", "name"), [("ms-swift", "a.jsonl"), ("sentence-transformers", "a.csv")])
def test_scores_that_a_file_has_no_place_for_are_told(tmp_path, form, name) -> None:
    reading = Reading()

    convert([ForeignRow(1, "q", ("p",), ("n",), scores=(1.5, 0.5))], tmp_path / name, form, reading=reading)

    (line,) = reading.lines(name)
    assert "scores of 1 rows are left out" in line


scores = st.floats(-50, 50).map(lambda score: round(score, 6))
words = st.text("abcdef", min_size=1, max_size=8)
scored_rows = st.builds(
    ForeignRow,
    st.just(1),
    words,
    st.lists(words, min_size=1, max_size=3).map(tuple),
    st.lists(words, min_size=1, max_size=3).map(tuple),
)


@pytest.mark.parametrize("form", ["flagembedding", "tevatron"])
@given(rows=st.lists(scored_rows, min_size=1, max_size=3), draw=st.data())
@settings(max_examples=40, deadline=None)
def test_a_scored_file_of_another_trainer_round_trips(tmp_path_factory, form, rows, draw) -> None:
    def drawn(row: ForeignRow) -> tuple[float, ...]:
        count = len(row.positives) + len(row.negatives)
        return tuple(draw.draw(st.lists(scores, min_size=count, max_size=count)))

    scored = [replace(row, scores=drawn(row)) for row in rows]
    first, second = (tmp_path_factory.mktemp("rows") / f"{name}.jsonl" for name in "ab")
    convert(scored, first, form)
    convert(read_foreign(first)[0], second, form)

    read, read_as = read_foreign(second)

    assert read_as == form
    assert [(row.positives, row.negatives, row.scores) for row in read] == [
        (row.positives, row.negatives, row.scores) for row in scored
    ]
    assert [json.loads(line)["query"] for line in second.read_text().splitlines()] == [row.query for row in rows]


def test_a_teachers_scores_go_where_trainers_read_them(tmp_path) -> None:
    plain = example(1)
    negatives = tuple(replace(negative, score=float(negative.level)) for negative in plain.negatives)
    taught = replace(
        plain,
        positive_score=4.5,
        negatives=negatives,  # type: ignore[arg-type]
        candidates=(Passage("a candidate", Origin.MINED, 0.3, 2.5), Passage("without", Origin.MINED, 0.2)),
        scale=ScoreScale.GRADE,
    )
    exported = {}
    for form in ("sentence-transformers", "lists", "flagembedding", "tevatron"):
        export_examples([taught], tmp_path / f"{form}.jsonl", form)
        exported[form] = json.loads((tmp_path / f"{form}.jsonl").read_text(encoding="utf-8"))
    export_examples([taught], tmp_path / "own.parquet", "multigrain")

    assert exported["sentence-transformers"]["label"] == [4.5, 1, 2, 3, 4, 2.5]
    assert exported["sentence-transformers"]["negative_5"] == "a candidate"
    assert exported["lists"]["labels"] == [4.5, 1, 2, 3, 4, 2.5]
    assert exported["flagembedding"]["neg_scores"] == [1, 2, 3, 4, 2.5]
    assert exported["tevatron"]["positive_passages"][0]["score"] == 4.5
    for form in ("sentence-transformers.jsonl", "flagembedding.jsonl", "tevatron.jsonl"):
        assert read_foreign(tmp_path / form)[0][0].scores == (4.5, 1, 2, 3, 4, 2.5)
    assert read_foreign(tmp_path / "own.parquet")[0][0].scores == (4.5, 1, 2, 3, 4)


def test_rows_of_uneven_length_do_not_become_columns(tmp_path) -> None:
    rows = [ForeignRow(1, "q", ("p",), ("a",)), ForeignRow(2, "q2", ("p",), ("a", "b"))]

    with pytest.raises(SourceError, match="there are 1 to 2; --format lists, flagembedding and tevatron"):
        convert(rows, tmp_path / "rows.jsonl", "sentence-transformers")


def test_sentence_transformers_columns_stand_in_the_order_that_its_trainer_reads(tmp_path) -> None:
    from datasets import load_dataset

    export_examples([example(1), example(2)], tmp_path / "rows.parquet", "sentence-transformers")

    loaded = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=str(tmp_path))

    assert loaded.column_names == ["anchor", "positive", *(f"negative_{level}" for level in range(1, 5))]


def test_a_folder_that_datasets_saved_is_read(tmp_path) -> None:
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list([{"query": "q", "positive": "p", "negative": "n"}])
    saved.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": saved, "dev": saved}).save_to_disk(str(tmp_path / "two"))

    (row,), form = read_foreign(tmp_path / "one")

    assert (row.query, row.negatives, form) == ("q", ("n",), "sentence-transformers")
    with pytest.raises(SourceError, match="one of its splits: train, dev"):
        read_foreign(tmp_path / "two")
    (tmp_path / "three").mkdir()
    with pytest.raises(SourceError, match="neither Parquet files nor a data set"):
        read_foreign(tmp_path / "three")


def test_a_system_message_that_is_not_read_is_told(tmp_path) -> None:
    asked = [{"role": "system", "content": "Find it."}, {"role": "user", "content": "q"}]
    row = {"messages": asked, "positive_messages": [[{"role": "user", "content": "p"}]]}
    reading = Reading()
    (read,), _ = read_all(written(tmp_path / "swift.jsonl", row), reading)
    assert read.query == "q"
    assert any("system messages are not used" in line for line in reading.lines("swift.jsonl"))


@pytest.mark.parametrize("field", ["messages", "positive_messages", "negative_messages"])
def test_earlier_turns_that_are_not_used_are_told(tmp_path, field) -> None:
    def turns(*texts: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text} for text in texts]

    row = {"messages": turns("q"), "positive_messages": [turns("p")], "negative_messages": [turns("n")]}
    longer = {**row, field: turns("before", "q") if field == "messages" else [turns("before", "p")]}
    plain, told = Reading(), Reading()
    read_all(written(tmp_path / "a.jsonl", row), plain)
    read_all(written(tmp_path / "b.jsonl", longer), told)
    assert list(plain.lines("a")) == []
    (line,) = told.lines("b")
    assert f"of conversations in '{field}' the last message alone is used" in line
