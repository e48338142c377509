"""One reader for every table: the same rows from every kind, and one form of a place."""

from __future__ import annotations

import csv
import json
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from multigrain.errors import SourceError
from multigrain.storage.columns import ID, OWN_ID, PASSAGE, POSITIVE, QUERY, TEXT, no_column
from multigrain.storage.labels import label_of
from multigrain.storage.rows import Row, read_lines, read_rows, row_kind
from multigrain.storage.text import NotTextError

ROWS = [{"id": f"r{number}", "text": f'words "{number}",\tand\u2028more'} for number in range(12)]
KINDS = ["jsonl", "ndjson", "json", "json lines", "csv", "tsv", "parquet", "folder", "saved", "hub"]


def write(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path | str:
    path = folder / f"rows.{kind.split(maxsplit=1)[0]}"
    if kind in ("jsonl", "ndjson", "json lines"):
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "folder":
        path.mkdir()
        (path / "README.md").write_text("not a table")
        pq.write_table(pa.Table.from_pylist(rows[:5]), path / "a.parquet")
        pq.write_table(pa.Table.from_pylist(rows[5:]), path / "b.parquet")
    else:
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
        return f"hf:{path}" if kind == "hub" else path
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_from_every_kind_and_know_their_places(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, ROWS)

    rows = list(read_rows(Path(path)))

    assert [row.values for row in rows] == ROWS
    numbers = [row.number for row in rows]
    assert numbers == sorted(set(numbers))
    is_lines = kind in ("jsonl", "ndjson", "json", "json lines", "csv", "tsv")
    assert [row.place for row in rows] == [f"{path}:{'' if is_lines else 'row '}{number}" for number in numbers]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_an_address_is_read_as_a_file_is(tmp_path: Path, name: str) -> None:
    local = write(tmp_path, name.split(".")[1], ROWS)
    address = f"memory://test_rows/{name}"
    with fsspec.open(address, "wb") as remote:
        remote.write(Path(local).read_bytes())

    assert [row.values for row in read_rows(address)] == ROWS
    with pytest.raises(SourceError, match=r"memory://test_rows/nothing.jsonl: cannot be read"):
        list(read_rows("memory://test_rows/nothing.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{"a":', "a.jsonl:3: not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]', "a.jsonl:2: expected an object, got list"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}', "a.jsonl:2: not UTF-8 (byte 0xe9)"),
        ("a.csv", b"a,b\n1,2\n1,caf\xe9", "a.csv:3: not UTF-8"),
        ("a.csv", b"a,b\n1,2\n1,2,3", "a.csv:3: more cells than columns; put texts with commas in quotes"),
        ("a.tsv", b"a\tb\n1\t2\t3", "a.tsv:2: more cells than columns; put texts with tabs in quotes"),
        ("a.csv", b'a,b\n1,2\n"1,2\n3,4', "a.csv:3: not CSV (a quote opens in this row and is never closed)"),
        ("a.csv", b'a,b\n1,2\n"1,2\n"3,4', "a.csv:3: not CSV (a quote is closed and text follows it in line 4)"),
        ("a.csv", b"a,b,a\n1,2,3", "a.csv:1: two columns are called 'a'; rename one of them"),
        ("a.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}', "a.jsonl:2: the key 'a' stands twice in one object"),
        (
            "a.jsonl",
            '{"a": 1}'.encode("utf-16"),
            "a.jsonl:1: not UTF-8 but UTF-16; convert the file, e.g. `iconv -f",
        ),
        ("a.csv", "a,b\n1,2".encode("utf-16"), "a.csv:1: not UTF-8 but UTF-16; convert the file, e.g. `iconv -f"),
        ("a.json", b"[1]", "a.json:entry 1: expected an object, got int"),
        ("a.json", b"[{", "a.json: not JSON"),
        ("a.jsonl", b"\x00\x01\x02\x03\xff", "a.jsonl: not text, by what it holds"),
        ("a.parquet", b"not parquet", "a.parquet: cannot be read as Parquet"),
        ("a.xyz", b"x", "a.xyz: cannot tell what it holds; expected one of .jsonl"),
        ("missing.csv", None, "missing.csv: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_place(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError) as caught:
        list(read_rows(tmp_path / name))

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")

    with pytest.raises(SourceError, match="two columns are called 'a'"):
        list(read_rows(tmp_path / "a.parquet"))


def test_folders_that_hold_no_table_and_splits_that_nobody_chose_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    part = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": part, "dev": part}).save_to_disk(str(tmp_path / "both"))

    with pytest.raises(SourceError, match="neither Parquet files nor a data set"):
        list(read_rows(tmp_path / "empty"))
    with pytest.raises(SourceError, match="give the folder of one of its splits: train, dev"):
        list(read_rows(tmp_path / "both"))
    assert len(list(read_rows(Path(f"hf:{tmp_path / 'both'}:dev")))) == len(ROWS)
    with pytest.raises(SourceError, match="no split 'test'; it has train, dev"):
        list(read_rows(Path(f"hf:{tmp_path / 'both'}:test")))


def folder_of(folder: Path, **files: pa.Table) -> Path:
    for name, table in files.items():
        path = folder / f"{name.replace('__', '/')}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    return folder


def test_files_of_one_folder_add_columns_and_say_what_others_leave_open(tmp_path: Path) -> None:
    """As pandas writes shards: a column of nothing has no type, whole numbers stay whole where they are."""
    first = pa.table({"query": ["a"], "note": pa.nulls(1), "tags": pa.array([[]], pa.list_(pa.null())), "label": [1]})
    second = pa.table(
        {"query": ["b"], "note": ["said"], "tags": [["x"]], "label": [0.5], "negative_1": ["far"], "more": [True]}
    )

    rows = [row.values for row in read_rows(folder_of(tmp_path, a=first, b__c=second))]

    assert rows == [
        {"query": "a", "note": None, "tags": [], "label": 1.0, "negative_1": None, "more": None},
        {"query": "b", "note": "said", "tags": ["x"], "label": 0.5, "negative_1": "far", "more": True},
    ]


@pytest.mark.parametrize(
    "other", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.int64(), pa.null()]
)
@pytest.mark.parametrize("first", ["a", "b"])
def test_texts_of_several_files_are_texts_whatever_each_file_calls_them(
    tmp_path: Path, other: Any, first: str
) -> None:
    value = None if other == pa.null() else 7 if other == pa.int64() else "7"
    tables = {"a": pa.table({"id": ["x"]}), "b": pa.table({"id": pa.array([value], other)})}
    folder_of(tmp_path, one=tables.pop(first), two=tables.popitem()[1])

    ids = {row.values["id"] for row in read_rows(tmp_path)}

    assert ids == {"x", None if value is None else "7"}


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a=pa.table({"query": ["a"]}), b=pa.table({"query": [[1]]}))

    with pytest.raises(SourceError, match=r"cannot be read as Parquet \(.*cast"):
        list(read_rows(folder))


def test_columns_that_do_not_fit_together_keep_the_first_files_type(tmp_path: Path) -> None:
    tables = {"a": pa.table({"query": ["a"], "unused": [1]}), "b": pa.table({"query": ["b"], "unused": [True]})}

    assert [row.values["query"] for row in read_rows(folder_of(tmp_path, **tables))] == ["a", "b"]


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001", "test-00000-of-00001"),
        ("train__0000", "val__0000"),
        ("dev_1", "TRAIN_1"),
        ("train-00000-of-00001-a09b74b3ef9c3b56", "test-00000-of-00001-0123456789abcdef"),
        ("split=train__a", "split=test__a"),
    ],
)
def test_training_and_test_rows_of_one_folder_are_not_mixed(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = folder_of(tmp_path, **{name: pa.table({"query": ["a"]}) for name in names})

    with pytest.raises(SourceError, match=r"holds the splits .*; name one of them, as in hf:"):
        list(read_rows(folder))


@pytest.mark.parametrize(
    "names", [("test_guide", "dev_guide"), ("Train-0", "train-1"), ("test", "notes"), ("val-0", "dev-1")]
)
def test_other_names_are_no_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = folder_of(tmp_path, **{name: pa.table({"query": [name]}) for name in names})

    assert {row.values["query"] for row in read_rows(folder)} == set(names)


def test_one_split_of_a_copied_repository_is_read_by_its_name(tmp_path: Path) -> None:
    parts = {f"data__{split}-00000-of-00001": pa.table({"query": [split]}) for split in ("train", "test")}
    folder_of(tmp_path, **parts)

    assert [row.values for row in read_rows(Path(f"hf:{tmp_path}:test"))] == [{"query": "test"}]


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_classes_are_read_by_their_names(tmp_path: Path, kind: str) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["not_duplicate", "duplicate"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [1, 0, None, -1]}, features=features)
    path = tmp_path / "a.parquet"
    if kind == "parquet":
        data.to_parquet(path)
    else:
        path = tmp_path / "saved"
        data.save_to_disk(str(path))

    assert [row.values["label"] for row in read_rows(path)] == ["duplicate", "not_duplicate", None, None]
    assert [label_of(row, "label") for row in read_rows(path)] == [1, 0, None, None]


def test_classes_whose_names_say_nothing_count_by_their_numbers(tmp_path: Path) -> None:
    features = datasets.Features({"label": datasets.ClassLabel(names=["unrelated", "related"])})
    datasets.Dataset.from_dict({"label": [1, 0]}, features=features).to_parquet(tmp_path / "a.parquet")

    assert [label_of(row, "label") for row in read_rows(tmp_path / "a.parquet")] == [1, 0]


@pytest.mark.parametrize("kind", ["parquet", "folder", "saved"])
def test_cells_of_different_kinds_that_datasets_keeps_as_json_are_what_they_were(tmp_path: Path, kind: str) -> None:
    written = [
        {"query": "a", "positive": "one text", "neg": ["n", {"text": "m"}], "meta": {"by": [1, "x"]}},
        {"query": "b", "positive": ["one", "two"], "neg": [], "meta": None},
        {"query": "c", "positive": None, "neg": None, "meta": {"by": None}},
    ]
    features = datasets.Features(
        {
            "query": datasets.Value("string"),
            "positive": datasets.Json(),
            "neg": datasets.List(datasets.Json()),
            "meta": {"by": datasets.Json()},
        }
    )
    data = datasets.Dataset.from_list(written, features=features)
    path = tmp_path / ("a.parquet" if kind == "parquet" else "table")
    if kind == "saved":
        data.save_to_disk(str(path))
    else:
        if kind == "folder":
            path.mkdir()
        data.to_parquet(path if kind == "parquet" else path / "a.parquet")

    rows = list(read_rows(path))

    assert [row.values["query"] for row in rows] == ["a", "b", "c"]
    assert [row.values["positive"] for row in rows] == ["one text", ["one", "two"], None]
    assert [row.values["neg"] or [] for row in rows] == [["n", {"text": "m"}], [], []]
    assert rows[0].values["meta"] == {"by": [1, "x"]}
    assert [row.texts(POSITIVE) for row in rows] == [["one text"], ["one", "two"], []]


def test_ids_that_duckdb_makes_uuids_of_are_texts(tmp_path: Path) -> None:
    identifier = "6af613b6-569c-5c22-9c37-2ed93f31d3af"
    ids = pa.array([uuid.UUID(identifier).bytes, None], pa.uuid())
    pq.write_table(pa.table({"_id": ids, "text": ["a", "b"]}), tmp_path / "a.parquet")

    assert [row.identifier(ID) for row in read_rows(tmp_path / "a.parquet")] == [identifier, None]


def test_a_cell_that_is_no_json_in_a_column_of_it_stays_as_it_is(tmp_path: Path) -> None:
    cells = ["{", '{"a": 1, "a": 2}', '["one"]']
    pq.write_table(pa.table({"text": pa.array(cells, pa.json_())}), tmp_path / "a.parquet")

    assert [row.values["text"] for row in read_rows(tmp_path / "a.parquet")] == [*cells[:2], ["one"]]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_object_over_several_lines_is_no_list_of_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"queries": {}, "corpus": {"a": "text"}}, indent=2))

    with pytest.raises(SourceError, match="object over several lines") as caught:
        list(read_rows(tmp_path / name))
    if name == "a.json":
        assert "its keys are 'queries', 'corpus'" in str(caught.value)


def test_ids_that_pandas_made_decimals_of_are_whole_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1.0}\n{"id": 1.5}\n{"id": "1.0"}\n{"ID": 7}')

    assert [row.identifier(OWN_ID) for row in read_rows(tmp_path / "a.jsonl")] == ["1", "1.5", "1.0", "7"]


@given(st.lists(st.text(max_size=20), min_size=2, max_size=4))
def test_lists_that_were_printed_into_a_cell_are_lists_again(texts: list[str]) -> None:
    for printed in (json.dumps(texts), str(texts), str(np.array(texts, dtype=object))):
        row = Row("a.csv:", 2, {"positives": printed, "positive": printed})
        assert row.texts("positives") == [text.strip() for text in texts if text.strip()]
        assert row.texts("positive") == [printed.strip()], "a text, by its column's name"


def test_a_list_that_numpy_cut_short_is_refused() -> None:
    row = Row("a.csv:", 2, {"positives": str(np.array([f"t{number}" for number in range(2_000)], dtype=object))})

    with pytest.raises(SourceError, match="numpy cut short"):
        row.texts("positives")


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_wanted_columns_alone_are_read_and_a_missing_one_names_those_there_are(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, ROWS)

    assert [row.values for row in read_rows(path, columns=["text"])] == [{"text": row["text"]} for row in ROWS]
    with pytest.raises(
        SourceError, match=r"row 1: no column 'txt' \(did you mean 'text'\?\); its columns are 'id', 'text'"
    ):
        next(read_rows(path, columns=["txt"])).column("txt")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_a_long_table_goes_through_memory_in_parts(tmp_path: Path, kind: str) -> None:
    rows = [{"id": str(number), "text": f"{number} " * 200} for number in range(20_000)]
    path = write(tmp_path, kind, rows)
    whole = sum(len(row["text"]) for row in rows)
    rows.clear()

    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 20_000
    assert peak < whole / 2


_CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8), st.sampled_from(["jsonl", "json", "csv", "tsv"]))
def test_whatever_cells_hold_they_come_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], kind: str
) -> None:
    # A line of a TSV file with all its cells is a row, so a text that holds both may be taken apart there.
    assume(kind != "tsv" or not any("\t" in cell and "\n" in cell for pair in cells for cell in pair))
    rows = [{"a": first, "b": second} for first, second in cells]
    path = write(tmp_path_factory.mktemp("rows"), kind, rows)

    assert [row.values for row in read_rows(path)] == rows


def test_columns_are_found_by_what_people_call_them() -> None:
    row = Row("pairs.csv:", 3, {"question": " why? ", "answer": ["so", " "], "qid": 7})

    assert (row.column(QUERY), row.text(QUERY), row.texts(POSITIVE), row.identifier(ID)) == (
        "question",
        "why?",
        ["so"],
        "7",
    )
    with pytest.raises(SourceError, match=r"csv:3: no column 'anser' \(did you mean 'answer'\?\).*with --positive"):
        row.text("anser", option="--positive-field")
    with pytest.raises(SourceError, match=r"pairs\.csv:3: 'answer' is list, not text"):
        row.text("answer")
    with pytest.raises(SourceError, match=r"x:1: no column with the text \(text, .*\); its columns are none"):
        Row("x:", 1, {}).text(TEXT)
    for column in (QUERY, POSITIVE, TEXT, ID):
        assert column.among(reversed(column.names)) == column.names[0], "earlier names go before later ones"


def test_lines_are_read_without_empty_ones_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\n\n  two\u2028three \r\n".encode())

    assert [(row.place, row.values["line"]) for row in read_lines(path)] == [
        (f"{path}:1", "one"),
        (f"{path}:3", "two\u2028three"),
    ]
    path.write_bytes(b"fine\ncaf\xe9")
    with pytest.raises(NotTextError, match=r"a\.txt:2: not UTF-8"):
        list(read_lines(path))


def test_a_kind_is_told_by_the_name() -> None:
    names = ["a.JSONL", "b.tsv", "c.parquet", "hf:owner/name", "d.docx"]
    assert [row_kind(Path(name)) for name in names] == ["jsonl", "tsv", "parquet", "hub", None]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_json_as_pandas_and_crawlers_write_it(tmp_path: Path, name: str) -> None:
    row = '{"query": "half \\ud83d, whole \\ud83d\\ude00, none\\u0000", "neg": ["\\uDE00"], "title": NaN}'
    path = tmp_path / name
    path.write_text(f"[{row}]" if name.endswith(".json") else row)
    (read,) = read_rows(path)
    assert read.values == {"query": "half ?, whole \U0001f600, none", "neg": ["?"], "title": None}


def test_other_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"score": 1}\n{"score": -Infinity}')
    with pytest.raises(SourceError, match=r"rows\.jsonl:2: not JSON \(-Infinity"):
        list(read_rows(path))


def test_a_name_with_dots_is_a_field_within_a_column(tmp_path: Path) -> None:
    path = tmp_path / "hits.jsonl"
    rows = [
        {"_id": "1", "_source": {"body": " Open settings. ", "at": {"url": "x"}}},
        {"_id": "2", "_source": {"body": None}},
        {"_id": "3", "a.b": "with a dot"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    first, second, third = read_rows(path)

    assert first.text("_source.body") == "Open settings."
    assert first.texts("_source.body") == ["Open settings."]
    assert first.identifier("_source.at.url") == "x"
    assert second.text("_source.body") is None
    assert third.text("a.b") == "with a dot"
    with pytest.raises(SourceError, match=r":1: no column with the text .*'_id', '_source\.body', '_source\.at\.url'"):
        first.text(PASSAGE)
    with pytest.raises(SourceError, match=r":1: no column '_source\.bodi' \(did you mean '_source\.body'"):
        first.text("_source.bodi")
    with pytest.raises(SourceError, match=r":3: no column '_source\.body'"):
        third.text("_source.body")


@pytest.mark.parametrize(
    "value",
    [
        {"d1": {"text": "a"}, "d2": {"text": "b"}},
        {"documents": [{"text": "a"}, {"text": "b"}]},
        {"text": {"0": "a", "1": "b"}, "id": {"0": 1, "1": 2}},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_with_all_rows_is_not_taken_for_a_row(
    tmp_path: Path, value: dict[str, object], indent: int | None
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value, indent=indent))

    with pytest.raises(SourceError, match=rf"one object.*, not a list of rows: its keys are '{next(iter(value))}'"):
        list(read_rows(path))


def test_a_single_row_of_objects_and_lists_is_one(tmp_path: Path) -> None:
    for row in ({"query": "q", "positives": [{"text": "a"}]}, {"doc": {"text": "a"}}):
        (tmp_path / "a.json").write_text(json.dumps(row))
        assert [each.values for each in read_rows(tmp_path / "a.json")] == [row]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_nan_is_what_is_missing_in_every_kind_of_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.table({"id": [1.0, float("nan")], "label": pa.array([float("nan"), 1.0])}), path)
    else:
        path.write_text(
            "id,label\n1,NaN\nNaN,1" if name == "a.csv" else '{"id": 1, "label": NaN}\n{"id": NaN, "label": 1}'
        )

    rows = list(read_rows(path))

    assert [row.identifier("id") for row in rows] == ["1", None]
    assert [label_of(row, "label") for row in rows] == [None, 1]


def test_a_first_row_that_was_taken_for_names_is_told_and_no_error_is_a_flood() -> None:
    texts = ["what do owls eat at night", "Owls eat mice. " * 100]

    for names in (texts, ["1", "2"]):
        message = no_column(QUERY, names)
        assert "if that is a row, write a line with the names of the columns above it" in message
        assert len(message) < 500
    assert "row" not in no_column(QUERY, ["Customer question (free text)", "answer"])
    assert len(no_column(QUERY, [f"d{n}" for n in range(10_000)])) < 500
