"""Given queries: read from every form, never changed, and kept apart from what is held out."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import DocumentsConfig, PairsConfig
from multigrain.errors import SourceError
from multigrain.records import Split
from multigrain.sources.pairs import PairTable, load_pairs, pairs_fingerprint, prepare_pairs, read_pairs
from multigrain.sources.store import read_query_table, write_query_table

SHARES = DocumentsConfig(validation_share=0.2, test_share=0.3)


def passage(number: int) -> str:
    return " ".join(f"word{number}x{place}" for place in range(25))


def rows(count: int = 60, positives: int = 1) -> list[dict[str, object]]:
    return [
        {"query": f"What IS  thing {n}?", "positive": [passage(100 * n + k) for k in range(positives)]}
        for n in range(count)
    ]


def write_jsonl(path: Path, values: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in values), encoding="utf-8")
    return path


def write_beir(folder: Path, *, score: str = "1") -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": f"T{n}", "text": passage(n)} for n in range(40)])
    write_jsonl(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"ask {n}"} for n in range(20)])
    lines = [f"q{n}\td{2 * n + k}\t{score if k else 1}" for n in range(20) for k in range(2)]
    (folder / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    return folder


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "rows"])
def test_every_form_gives_the_same_queries_word_for_word(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"pairs.{'jsonl' if form == 'rows' else form}"
    flat = [{"query": each["query"], "positive": text} for each in rows(20, 2) for text in each["positive"]]  # type: ignore[attr-defined]
    if form == "jsonl":
        write_jsonl(path, rows(20, 2))
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows(20, 2)), path)
    elif form == "csv":
        path.write_text("\n".join(["query,positive", *(f'"{each["query"]}",{each["positive"]}' for each in flat)]))
    else:
        write_jsonl(path, flat)

    found = load_pairs(PairsConfig(path=path), SHARES, seed=1)

    texts = {document.id: document.text for document in found.documents}
    read = {query.text: [texts[each] for each in query.document_ids] for query in found.queries}
    assert read == {each["query"]: each["positive"] for each in rows(20, 2)}
    assert found.counts["pairs"] == 40


def test_queries_that_share_a_positive_share_a_side_and_so_do_their_documents(tmp_path: Path) -> None:
    values = rows(120)
    for number in range(0, 120, 2):  # two by two
        values[number + 1]["positive"] = [*values[number]["positive"], passage(5000 + number)]  # type: ignore[misc]
    path = write_jsonl(tmp_path / "pairs.jsonl", values)

    found = load_pairs(PairsConfig(path=path), SHARES, seed=1)

    assert found.counts["split_by"] == "documents"
    sides = {document.id: document.split for document in found.documents}
    for query in found.queries:
        assert {sides[each] for each in query.document_ids} == {query.split}
    by_text = {query.text: query.split for query in found.queries}
    for number in range(0, 120, 2):
        assert by_text[f"What IS  thing {number}?"] is by_text[f"What IS  thing {number + 1}?"]
    assert 20 <= list(by_text.values()).count(Split.TEST) <= 55
    groups = {query.text: {d.group for d in found.documents if d.id in query.document_ids} for query in found.queries}
    assert all(len(each) == 1 for each in groups.values()), "other positives of a query are never mined as negatives"


def test_where_everything_hangs_together_queries_are_split_by_their_words(tmp_path: Path) -> None:
    values = [{"query": f"topic{n} and {n * n}", "positive": [passage(n), passage(n + 1)]} for n in range(80)]

    found = load_pairs(PairsConfig(path=write_jsonl(tmp_path / "p.jsonl", values)), SHARES, seed=1)

    assert found.counts["split_by"] == "queries"
    assert {query.split for query in found.queries} == set(Split)
    sides = {document.id: document.split for document in found.documents}
    for query in found.queries:
        if query.split is Split.TRAIN:
            assert {sides[each] for each in query.document_ids} == {Split.TRAIN}


def test_a_corpus_beside_the_pairs_is_searched_and_mined(tmp_path: Path) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows(30))
    corpus = [{"id": f"c{n}", "text": passage(100 * n)} for n in range(60)]
    path = write_jsonl(tmp_path / "corpus.jsonl", corpus)  # type: ignore[arg-type]

    found = load_pairs(PairsConfig(path=pairs), SHARES.model_copy(update={"path": path}), seed=1)

    assert len(found.documents) == 60  # thirty are the positives themselves
    assert sum(document.split is Split.TRAIN for document in found.documents) >= 30


def test_long_passages_without_spaces_keep_more_than_their_titles(tmp_path: Path) -> None:
    values = [{"query": f"查询{n}", "positive": f"标题{n}\n" + f"水在一百度沸腾{n}。" * 300} for n in range(20)]
    shares = SHARES.model_copy(update={"max_characters": 1000})

    found = load_pairs(PairsConfig(path=write_jsonl(tmp_path / "pairs.jsonl", values)), shares, seed=1)

    assert [len(document.text) for document in found.documents] == [1000] * 20


def test_beir_folders_are_read_as_beir_reads_them(tmp_path: Path) -> None:
    found = load_pairs(PairsConfig(path=write_beir(tmp_path / "set")), SHARES, seed=1)

    assert {query.text for query in found.queries} == {f"ask {n}" for n in range(20)}
    assert {document.id for document in found.documents} == {f"d{n}" for n in range(40)}
    assert found.documents[3].text == f"T3 {passage(3)}"
    assert all(len(query.document_ids) == 2 for query in found.queries)
    judged_not_relevant = load_pairs(PairsConfig(path=write_beir(tmp_path / "other", score="0")), SHARES, seed=1)
    assert all(len(query.document_ids) == 1 for query in judged_not_relevant.queries)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"asked": "a", "positive": "b"}',
            ["pairs.jsonl:1: no column with the query (query, ", "its columns are 'asked'", "pairs.query_field"],
        ),
        ('{"query": "a", "told": "b"}', ["no column with the positive (positive, ", "pairs.positive_field"]),
        ('{"query": ["a"], "positive": "b"}', ["pairs.jsonl:1: 'query' is list, not text"]),
        ('{"query": "a", "positive": 7}', ["'positive' holds int", "a text or a list of texts"]),
        ('{"query": "a", "positive": ["b", null]}', ["'positive' holds NoneType"]),
        ('{"query": "a", "positive": "b"}', ["1 queries with a positive", "at least 10"]),
        ("", ["0 queries with a positive"]),
        ('{"query": "", "positive": "b"}\n' * 12, ["0 queries", "12 rows lack one"]),
    ],
)
def test_bad_pairs_are_one_line_that_names_the_place(tmp_path: Path, content: str, words: list[str]) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)

    with pytest.raises(SourceError) as caught:
        load_pairs(PairsConfig(path=path), SHARES, seed=1)

    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in [str(path), *words])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "dev"}, "pairs.split can be: train"),
        ("q1\td999\t1\n" * 11, "train.tsv:42: corpus-id 'd999' is not in corpus.jsonl; 11 of 51 judgments"),
        ("q999\td1\t1\n" * 11, "train.tsv:42: query-id 'q999' is not in queries.jsonl; 11 of 51 judgments"),
        ("q1\td1\tyes", "train.tsv:42: grade 'yes' is not a whole number"),
    ],
)
def test_a_broken_beir_folder_is_named(tmp_path: Path, change: dict[str, str] | str, words: str) -> None:
    folder = write_beir(tmp_path / "set")
    options = change if isinstance(change, dict) else {}
    if isinstance(change, str):
        path = folder / "qrels" / "train.tsv"
        path.write_text(path.read_text() + f"\n{change}\n")

    with pytest.raises(SourceError) as caught:
        load_pairs(PairsConfig(path=folder, **options), SHARES, seed=1)  # type: ignore[arg-type]

    assert words in str(caught.value)


def test_queries_survive_the_disk_and_the_fingerprint_follows_the_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pairs.jsonl", rows(20, 2))
    config = PairsConfig(path=path)
    found = load_pairs(config, SHARES, seed=1)
    write_query_table(tmp_path / "queries.jsonl", found.queries)

    assert read_query_table(tmp_path / "queries.jsonl") == found.queries
    before = pairs_fingerprint(config)
    write_jsonl(path, rows(21, 2))
    assert pairs_fingerprint(config) != before


_WORDS = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_WORDS, st.lists(_WORDS, min_size=1, max_size=3)), min_size=1, max_size=60))
def test_whatever_the_pairs_training_never_meets_a_held_out_positive(pairs: list[tuple[str, list[str]]]) -> None:
    table = PairTable()
    for number in range(12):  # enough that hang together with nothing
        table.answer(f"own {number}", table.document(passage(number)))
    for query, positives in pairs:
        for positive in positives:
            table.answer(query, table.document(f"{positive} " * 5))

    found = prepare_pairs(table, PairsConfig(path=Path("x")), SHARES, seed=1)

    sides = {document.id: document.split for document in found.documents}
    assert all(query.document_ids for query in found.queries)
    if found.counts["split_by"] == "documents":
        assert all(sides[each] is query.split for query in found.queries for each in query.document_ids)


def test_rows_are_read_in_any_number(tmp_path: Path) -> None:
    table = read_pairs(PairsConfig(path=write_jsonl(tmp_path / "p.jsonl", rows(3)), limit=10))

    assert (len(table.positives), table.pairs) == (3, 3)


@pytest.mark.parametrize("kind", ["saved", "flat", "parts"])
def test_a_folder_that_is_one_table_is_read_as_one(tmp_path: Path, kind: str) -> None:
    items = [{"query": f"what is item {n}?", "positive": f"Item {n} is told of in chapter {n}."} for n in range(30)]
    folder = tmp_path / "pairs"
    if kind == "saved":
        datasets.Dataset.from_list(items).save_to_disk(str(folder))
    else:
        folder.mkdir()
        names = ["a", "b"] if kind == "flat" else ["train-00000-of-00002", "train-00001-of-00002"]
        for name, part in zip(names, (items[:10], items[10:]), strict=True):
            pq.write_table(pa.Table.from_pylist(part), folder / f"{name}.parquet")
    config = PairsConfig(path=folder)
    before = pairs_fingerprint(config)

    assert len(read_pairs(config).positives) == 30
    assert pairs_fingerprint(config) == before
    if kind == "parts":
        (folder / "train-00000-of-00002.parquet").unlink()
        assert pairs_fingerprint(config) != before
        with pytest.raises(SourceError, match="part"):
            read_pairs(config)


@pytest.mark.parametrize(("column", "numbers"), [("labels", [1, 0, 0]), ("scores", [0.8, 0.1, 0.5])])
def test_texts_of_a_list_that_are_labelled_as_no_match_are_left_out(tmp_path, column, numbers) -> None:
    values = [{"query": f"q{n}", "answer": [f"p{n}", f"n{n}", "m"], column: numbers} for n in range(3)]

    table = read_pairs(PairsConfig(path=write_jsonl(tmp_path / "a.jsonl", values)))

    assert [document.text for document in table.documents] == ["p0", "p1", "p2"]
    assert table.pairs == 3
    assert len(table.notes) == 1
    assert table.notes[0].endswith("; the others are left out")


def test_similarities_that_call_no_row_of_a_query_no_match_are_told(tmp_path) -> None:
    values = [{"query": f"q{n % 2}", "answer": f"p{n}", "score": 0.8 - n / 100} for n in range(6)]

    table = read_pairs(PairsConfig(path=write_jsonl(tmp_path / "a.jsonl", values)))

    assert len(table.notes) == 1
    assert "all 6 rows of 2 queries count as matches" in table.notes[0]


def test_a_label_that_decides_neither_is_said(tmp_path) -> None:
    values = [
        {"query": "q", "answer": text, "label": text} for text in ("entailment", "neutral", "contradiction", "-")
    ]

    table = read_pairs(PairsConfig(path=write_jsonl(tmp_path / "a.jsonl", values)))

    assert any("'label' is 'neutral', which decides neither" in note for note in table.notes)
    assert not any("empty" in note for note in table.notes)


def test_a_passage_goes_before_the_answer_that_stands_in_it(tmp_path) -> None:
    value = {"question": "who wrote hamlet", "answer": True, "passage": "Hamlet is a tragedy."}

    table = read_pairs(PairsConfig(path=write_jsonl(tmp_path / "a.jsonl", [value])))

    assert [document.text for document in table.documents] == ["Hamlet is a tragedy."]


def test_a_compressed_table_says_what_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl.gz").write_bytes(b"\x1f\x8b")

    with pytest.raises(SourceError, match=r"compressed files are not read; unpack it first, e\.g\. `gunzip -k pairs"):
        read_pairs(PairsConfig(path=tmp_path / "pairs.jsonl.gz"))


@pytest.mark.parametrize("column", ["positive", "positives"])
def test_a_printed_list_is_one_under_a_name_in_the_plural_and_told_under_another(tmp_path: Path, column: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(f"query,{column}\n" + "".join(f"q{n},\"['p{n}', 'r{n}']\"\n" for n in range(3)))

    table = read_pairs(PairsConfig(path=path))

    if column == "positives":
        assert (table.pairs, table.notes) == (6, ())
    else:
        assert table.pairs == 3
        assert len(table.notes) == 1
        assert "'positive' holds a list as it is printed, such as ['a', 'b'], in 3 of 3 rows" in table.notes[0]
