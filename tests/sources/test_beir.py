"""The same set in every format that people keep such things in."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multigrain.config import DocumentsConfig, PairsConfig
from multigrain.errors import EvaluationError, SourceError
from multigrain.evaluation.sets.beir import read_beir, read_judged
from multigrain.sources.beir import BeirFiles, find_beir, is_beir, iterate_texts
from multigrain.sources.judgments import read_qrels
from multigrain.sources.pairs import load_pairs
from multigrain.storage.columns import JUDGED
from multigrain.storage.reading import Reading

TEXTS = {"7": "where do owls live", "b": 'a "quoted" question'}
QRELS = {"7": {"d1": 2, "d2": 0}, "b": {"d2": 1}}


def write_texts(path: Path, **names: str) -> Path:
    key, text = names.get("key", "_id"), names.get("text", "text")
    rows = [{key: identifier, text: words} for identifier, words in TEXTS.items()]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        path.write_text(f'{key},{text}\n7,where do owls live\nb,"a ""quoted"" question"\n')
    elif names.get("header"):
        path.write_text(f'{key}\t{text}\n7\twhere do owls live\nb\t"a ""quoted"" question"\n')
    else:
        path.write_text("".join(f"{identifier}\t{words}\n" for identifier, words in TEXTS.items()))
    return path


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("queries.jsonl", {}),
        ("queries.jsonl", {"key": "qid", "text": "query"}),
        ("queries.parquet", {"key": "id"}),
        ("queries.csv", {"key": "query_id", "text": "question"}),
        ("queries.tsv", {"header": "yes"}),
        ("queries.tsv", {}),
        ("queries.txt", {}),
    ],
)
def test_texts_are_the_same_from_every_format(tmp_path: Path, name: str, columns: dict[str, str]) -> None:
    assert dict(iterate_texts(write_texts(tmp_path / name, **columns))) == TEXTS


def write_qrels(path: Path, style: str) -> Path:
    flat = [(query, document, grade) for query, grades in QRELS.items() for document, grade in grades.items()]
    if style == "trec":
        path.write_text("".join(f"{query} 0 {document} {grade}\n" for query, document, grade in flat))
    elif style == "plain":
        path.write_text("".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in flat))
    elif style == "turned":
        path.write_text("score\tcorpus-id\tquery-id\n" + "".join(f"{g}\t{d}\t{q}\n" for q, d, g in flat))
    else:
        rows = [{"query-id": query, "corpus-id": document, "score": grade} for query, document, grade in flat]
        if style == "jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        elif style == "csv":
            path.write_text("qid,docid,relevance\n" + "".join(f"{q},{d},{g}.0\n" for q, d, g in flat))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("qrels.trec", "trec"),
        ("qrels.txt", "plain"),
        ("qrels.tsv", "turned"),
        ("qrels.jsonl", "jsonl"),
        ("qrels.csv", "csv"),
        ("qrels.parquet", "parquet"),
    ],
)
def test_judgments_are_the_same_from_every_format(tmp_path: Path, name: str, style: str) -> None:
    assert read_qrels(write_qrels(tmp_path / name, style)) == QRELS


def test_judgments_without_grades_name_what_is_relevant(tmp_path: Path) -> None:
    (tmp_path / "qrels.csv").write_text("query_id,doc_id\nq1,d1\n")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\nq1\td1\n")
    assert read_qrels(tmp_path / "qrels.csv") == read_qrels(tmp_path / "qrels.tsv") == {"q1": {"d1": 1}}


def write_columns(path: Path, columns: list[str], rows: list[tuple[object, ...]]) -> Path:
    """A table of judgments, in the format that the file's name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [columns, *([str("" if cell is None else cell) for cell in row] for row in rows)]
        path.write_text("".join(separator.join(line) + "\n" for line in lines))
    return path


FORMATS = ["qrels.csv", "qrels.jsonl", "qrels.parquet", "qrels.tsv"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    name=st.sampled_from(FORMATS),
    grade=st.sampled_from(JUDGED.names),
    write=st.sampled_from([str.lower, str.upper, str.title, lambda name: name.replace("_", "-")]),
    beside=st.booleans(),
    grades=st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
def test_grades_are_read_under_every_usual_name(
    tmp_path: Path, name: str, grade: str, write: Callable[[str], str], beside: bool, grades: list[int]
) -> None:
    columns = [*map(write, ("query-id", "corpus-id", grade)), *(["assessor"] if beside else [])]
    rows = [("q", f"d{n}", value, *(["x"] if beside else [])) for n, value in enumerate(grades)]
    reading = Reading("judgments")

    judged = read_qrels(write_columns(tmp_path / name, columns, rows), reading=reading)

    assert judged == {"q": {f"d{n}": value for n, value in enumerate(grades)}}
    assert reading.unused == (["assessor"] if beside else [])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (
            ["qid", "docid", "usefulness"],
            [("q", "d", 0), ("q", "e", 2)],
            "no column is known to hold the grades; its columns are 'qid', 'docid', 'usefulness': rename the one that "
            "does to score, or remove 'usefulness' if all rows are relevant",
        ),
        (["qid", "docid", "gain", "note"], [("q", "d", 0, "x"), ("q", "e", None, "x")], "no grade in 'gain'"),
    ],
)
def test_grades_that_are_not_told_are_never_made_up(
    tmp_path: Path, name: str, columns: list[str], rows: list[tuple[object, ...]], message: str
) -> None:
    with pytest.raises(SourceError) as caught:
        read_qrels(write_columns(tmp_path / name, columns, rows))
    assert f"{name}:" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grade_that_some_rows_have_is_not_made_up_for_the_others(tmp_path: Path) -> None:
    rows = [{"qid": "q", "docid": "d", "rel": 0}, {"qid": "q", "docid": "e"}]
    for ordered, words in ((rows, "qrels.jsonl:2: no grade, unlike"), (rows[::-1], "qrels.jsonl:2: a grade, unlike")):
        (tmp_path / "qrels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ordered))
        with pytest.raises(SourceError, match=words):
            read_qrels(tmp_path / "qrels.jsonl")


_NUMBERS = st.integers(0, 40).map(str)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    documents=st.lists(st.one_of(_NUMBERS, st.sampled_from(["d1", "x", "D-7"])), min_size=6, max_size=20, unique=True),
    grades=st.lists(st.integers(0, 3), min_size=20, max_size=20),
    fourth=st.sampled_from(["0", "Q0", "1", "sure", "relevant", "1700000000"]),
    known=st.booleans(),
)
def test_four_columns_without_a_header_are_trecs_or_have_a_note(
    tmp_path: Path, documents: list[str], grades: list[int], fourth: str, known: bool
) -> None:
    flat = [(f"q{n % 3}", document, grade) for n, (document, grade) in enumerate(zip(documents, grades, strict=False))]
    expected: dict[str, dict[str, int]] = {}
    for query, document, grade in flat:
        expected.setdefault(query, {})[document] = grade
    ids = {"corpus": (documents, Path("corpus.jsonl"))} if known else {}
    (tmp_path / "noted.tsv").write_text("".join(f"{q}\t{d}\t{g}\t{fourth}\n" for q, d, g in flat))
    assert read_qrels(tmp_path / "noted.tsv", **ids) == expected
    if fourth in ("0", "Q0", "1"):
        (tmp_path / "trec.txt").write_text("".join(f"{q} {fourth} {d} {g}\n" for q, d, g in flat))
        assert read_qrels(tmp_path / "trec.txt", **ids) == expected


def test_four_columns_that_may_be_either_are_refused_with_what_was_tried(tmp_path: Path) -> None:
    for content in ("q\td\tx\ty\n", "q\t7\t1\t2\n"):
        (tmp_path / "qrels.tsv").write_text(content)
        with pytest.raises(SourceError, match=r"cannot tell .* TREC's .*, or query id, document id, grade and a note"):
            read_qrels(tmp_path / "qrels.tsv")


def test_three_files_in_three_formats_make_a_set(tmp_path: Path) -> None:
    (tmp_path / "docs.csv").write_text("pid,title,passage\nd1,Owls,They hunt.\nd2,,Dogs bark.\n")
    queries, qrels = write_texts(tmp_path / "queries.tsv"), write_qrels(tmp_path / "qrels.trec", "trec")
    found = read_judged(BeirFiles(tmp_path / "docs.csv", queries, qrels), name="own", role="test")
    assert found.corpus == {"d1": "Owls They hunt.", "d2": "Dogs bark."}
    assert (found.queries, found.qrels) == (TEXTS, QRELS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("docs.tsv", "d1 no tab here\n", "docs.tsv:1: expected an id, a tab and a text"),
        ("docs.tsv", "d1\tone\nd1\ttwo\n", "docs.tsv:2: id 'd1' is taken by line 1"),
        ("docs.xml", "<d>", "docs.xml: cannot tell what it holds; expected one of .jsonl"),
        ("docs.csv", "id,words\nd1,text\n", "docs.csv:2: no column with the text (text, query"),
        ("docs.jsonl", '{"_id": true, "text": "x"}', "docs.jsonl:1: an id is a text or a number, got 'True'"),
    ],
)
def test_a_bad_table_gets_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError) as caught:
        dict(iterate_texts(tmp_path / name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("qrels.jsonl", '{"query": "q", "doc": "d"}', "qrels.jsonl:1: expected query id, document id and grade"),
        ("qrels.jsonl", "[]", "qrels.jsonl:1: expected an object, got list"),
        ("qrels.csv", "qid,docid,rel\nq,d,0.5\n", "qrels.csv:2: grade '0.5' is not a whole number"),
        ("qrels.csv", "qid,docid,rel\nq,,1\n", "qrels.csv:2: expected query id"),
    ],
)
def test_bad_judgments_get_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError) as caught:
        read_qrels(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def write_folder(folder: Path, **files: str) -> Path:
    contents = {
        "corpus.jsonl": "".join(
            json.dumps({"_id": f"d{n}", "text": f"passage {n} of {n * n}"}) + "\n" for n in range(20)
        ),
        "queries.jsonl": "".join(json.dumps({"_id": f"q{n}", "text": f"ask {n * n}"}) + "\n" for n in range(20)),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(20)),
    } | files
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus.jsonl": '{"_id": "d1"'}, "corpus.jsonl:1: not JSON"),
        ({"queries.jsonl": '{"_id": "q1", "text": 5}'}, "queries.jsonl:1: 'text' is int, not text"),
        ({"queries.jsonl": '{"name": "q1"}'}, "queries.jsonl:1: no column with the id (_id, id"),
        ({"corpus.jsonl": '{"_id": "", "text": "x"}'}, "corpus.jsonl:1: no id in it"),
        ({"qrels/test.tsv": "q1\td1\t0.5\n"}, "test.tsv:1: grade '0.5' is not a whole number"),
        ({"qrels/test.tsv": "q1\td1\t1\nq1\td99\t0\n"}, "test.tsv:2: corpus-id 'd99' is not in corpus.jsonl"),
        ({"qrels/test.tsv": "q99\td1\t1\n"}, "test.tsv:1: query-id 'q99' is not in queries.jsonl"),
        ({"qrels/test.tsv": "q1\td1\t1\nq1\td1\t2\n"}, "test.tsv:2: document 'd1' is judged 2 for query 'q1'"),
    ],
)
def test_pairs_and_evaluation_refuse_the_same_folders_in_the_same_words(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    folder = write_folder(tmp_path / "set", **files)

    with pytest.raises(SourceError) as of_pairs:
        load_pairs(PairsConfig(path=folder, split="test"), DocumentsConfig(), seed=1)
    with pytest.raises(EvaluationError) as of_evaluation:
        read_beir(folder, name="s", role="test")

    assert str(of_pairs.value) == str(of_evaluation.value)
    assert message in str(of_pairs.value)


def test_pairs_and_evaluation_read_the_same_texts_and_judgments(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    (folder / "corpus.csv").write_text("")  # .jsonl goes before it

    evaluation_set = read_beir(folder, name="s", role="test")
    pairs = load_pairs(PairsConfig(path=folder, split="test"), DocumentsConfig(), seed=1)

    assert is_beir(folder)
    assert {document.id: document.text for document in pairs.documents} == evaluation_set.corpus
    assert {query.text for query in pairs.queries} == set(evaluation_set.queries.values())
    assert dict(iterate_texts(find_beir(folder, "test").corpus)) == evaluation_set.corpus


def test_judgments_of_what_is_empty_are_counted_as_incomplete_pairs(tmp_path: Path) -> None:
    queries = "".join(json.dumps({"_id": f"q{n}", "text": f"ask {n}" if n else " "}) + "\n" for n in range(20))
    corpus = "".join(
        json.dumps({"_id": f"d{n}", "text": f"passage {n}" if n != 1 else None}) + "\n" for n in range(20)
    )
    folder = write_folder(tmp_path / "set", **{"queries.jsonl": queries, "corpus.jsonl": corpus})

    pairs = load_pairs(PairsConfig(path=folder, split="test"), DocumentsConfig(), seed=1)

    loaded = read_beir(folder, name="s", role="test")

    assert (pairs.counts["queries"], pairs.counts["incomplete"]) == (18, 2)
    assert (len(loaded.queries), len(loaded.corpus)) == (18, 19)
    assert [note.split("; the first")[0] for note in loaded.notes] == [
        "corpus.jsonl: 1 of 20 documents left out, empty",
        "queries.jsonl: 1 of 20 queries left out, empty",
        "test.tsv: 1 of 20 judgments left out, query-id not in queries.jsonl",
        "test.tsv: 1 of 20 judgments left out, corpus-id not in corpus.jsonl",
    ]


def test_a_few_judgments_of_what_is_not_there_are_left_out_and_counted_by_both_readers(tmp_path: Path) -> None:
    lines = "".join(f"q{n}\td{n}\t1\n" for n in range(20)) + "q3\tgone\t1\nlost\td1\t1\nq1\td1\t1\n"
    folder = write_folder(tmp_path / "set", **{"qrels/test.tsv": lines + "q5\tgone\t2\n"})

    pairs = load_pairs(PairsConfig(path=folder, split="test"), DocumentsConfig(), seed=1)
    loaded = read_beir(folder, name="s", role="test")

    assert (pairs.counts["queries"], pairs.counts["incomplete"], len(loaded.queries)) == (20, 3, 20)
    assert "test.tsv: 2 of 24 judgments left out, corpus-id not in corpus.jsonl" in loaded.notes[0]
    assert "test.tsv:21: corpus-id 'gone'" in loaded.notes[0]


def test_a_query_that_nobody_judged_relevant_for_is_left_out_and_counted(tmp_path: Path) -> None:
    lines = "".join(f"q{n}\td{n}\t{int(n > 0)}\n" for n in range(20))

    loaded = read_beir(write_folder(tmp_path / "set", **{"qrels/test.tsv": lines}), name="s", role="test")

    assert "q0" not in loaded.queries
    assert loaded.notes == ("test.tsv: 1 of 20 queries left out, no document judged relevant; the first is 'q0'",)


_HEADED = "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(20))
_TREC = "".join(f"q{n} 0 d{n} 1\n" for n in range(20))
_ROWS = [{"query-id": f"q{n}", "corpus-id": f"d{n}", "score": 1} for n in range(20)]
LAYOUTS = {
    "qrels/test.tsv": _HEADED,
    "qrels/test.txt": _TREC,
    "qrels/test.trec": _TREC,
    "qrels/test.jsonl": "".join(json.dumps(row) + "\n" for row in _ROWS),
    "qrels/test.json": json.dumps(_ROWS),
    "qrels/test.csv": _HEADED.replace("\t", ","),
    "qrels/test-00000-of-00001.parquet": _ROWS,
    "default/test-00000-of-00001.parquet": _ROWS,
    "data/test-00000-of-00001.parquet": _ROWS,
    "qrels.tsv": _HEADED.replace("query-id\tcorpus-id\tscore", "query_id\tdoc_id\trelevance"),
    "qrels.test.tsv": _HEADED,
    "qrels-test.txt": _TREC,
    "qrels.json": json.dumps({f"q{n}": {f"d{n}": 1} for n in range(20)}),
    "qrels.test.json": json.dumps({f"q{n}": [f"d{n}"] for n in range(20)}),
}
"""Every layout of judgments that sets are published in. A new one joins by a line here."""


@pytest.mark.parametrize("texts", ["files", "folders"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_judgments_are_found_in_every_published_layout(tmp_path: Path, name: str, texts: str) -> None:
    folder = write_folder(tmp_path / "set")
    expected = read_beir(folder, name="s", role="test")
    (folder / "qrels" / "test.tsv").unlink()
    (folder / "qrels").rmdir()
    (folder / name).parent.mkdir(exist_ok=True)
    content = LAYOUTS[name]
    if isinstance(content, str):
        (folder / name).write_text(content)
    else:
        pq.write_table(pa.Table.from_pylist(content), folder / name)
    if texts == "folders":
        for part in ("corpus", "queries"):
            rows = list(map(json.loads, (folder / f"{part}.jsonl").read_text().splitlines()))
            (folder / f"{part}.jsonl").unlink()
            (folder / part).mkdir()
            pq.write_table(pa.Table.from_pylist(rows[:9]), folder / part / "test-00000-of-00002.parquet")
            pq.write_table(pa.Table.from_pylist(rows[9:]), folder / part / "test-00001-of-00002.parquet")

    loaded = read_beir(folder, name="s", role="test")
    pairs = load_pairs(PairsConfig(path=folder, split="test"), DocumentsConfig(), seed=1)

    assert is_beir(folder)
    assert (loaded.corpus, loaded.queries, loaded.qrels) == (expected.corpus, expected.queries, expected.qrels)
    assert {query.text for query in pairs.queries} == set(expected.queries.values())


def test_a_document_may_lack_its_text(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    documents = [
        {"_id": "a", "title": "A title", "text": None},
        {"_id": "b", "text": ""},
        {"_id": "c", "text": "words"},
        {"_id": "d", "title": "No text"},
    ]
    for ordered in (documents, documents[::-1]):
        corpus.write_text("".join(json.dumps(document) + "\n" for document in ordered))
        assert dict(iterate_texts(corpus)) == {"a": "A title", "b": "", "c": "words", "d": "No text"}


_WORDS = st.text("ab é'\"", max_size=12).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    texts=st.lists(st.tuples(_WORDS | st.just("Question"), _WORDS), min_size=1, max_size=30),
    suffix=st.sampled_from([".tsv", ".txt"]),
)
def test_an_address_is_no_part_of_the_text_of_a_document(
    tmp_path: Path, texts: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path / f"docs{suffix}"
    texts = [("Title", "and text"), *texts]
    path.write_text(
        "".join(f"D{n}\thttps://a.org/{n}?q=b\t{title}\t{text}\n" for n, (title, text) in enumerate(texts))
    )

    reading = Reading("documents")
    found = dict(iterate_texts(path, reading=reading))

    assert found == {f"D{n}": " ".join(filter(None, pair)) for n, pair in enumerate(texts)}
    assert reading.unused == ["url"]


def test_an_address_within_a_text_stays(tmp_path: Path) -> None:
    (tmp_path / "docs.tsv").write_text("d1\thttps://a.org\nd2\thttps://a.org\tis\tan address\nd3\twords\n")
    texts = {"d1": "https://a.org", "d2": "https://a.org is an address", "d3": "words"}
    assert dict(iterate_texts(tmp_path / "docs.tsv")) == texts


def test_titles_are_no_texts_where_no_row_has_one(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "title": "A title", "abstract": "words"}\n')
    with pytest.raises(SourceError, match=r"corpus\.jsonl:1: no column with the text"):
        dict(iterate_texts(tmp_path / "corpus.jsonl"))


def write_parts(folder: Path, name: str, rows: list[dict[str, object]], cuts: list[int]) -> list[Path]:
    """A Parquet table in parts, as the hub names them."""
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [folder / f"{name}-{n:05d}-of-{len(bounds) - 1:05d}.parquet" for n in range(len(bounds) - 1)]
    table = pa.Table.from_pylist(rows)
    for part, (begin, end) in zip(parts, pairwise(bounds), strict=True):
        pq.write_table(table.slice(begin, end - begin), part)
    return parts


@settings(deadline=None, max_examples=15)
@given(
    what=st.sampled_from(["corpus", "queries", "qrels"]),
    cuts=st.lists(st.integers(1, 19), min_size=1, max_size=5, unique=True),
    lost=st.integers(0, 5),
)
def test_a_table_in_parts_is_read_whole_or_refused(what: str, cuts: list[int], lost: int) -> None:
    with TemporaryDirectory() as temporary:
        folder = write_folder(Path(temporary) / "set")
        expected = read_beir(folder, name="s", role="test")
        if what == "qrels":
            (folder / "qrels" / "test.tsv").unlink()
            rows: list[dict[str, object]] = [dict(row) for row in _ROWS]
        else:
            rows = list(map(json.loads, (folder / f"{what}.jsonl").read_text().splitlines()))
            (folder / f"{what}.jsonl").unlink()
        parts = write_parts(folder / what, "test", rows, cuts)

        loaded = read_beir(folder, name="s", role="test")

        assert (loaded.corpus, loaded.queries, loaded.qrels) == (expected.corpus, expected.queries, expected.qrels)
        gone = parts[lost % len(parts)]
        gone.unlink()
        with pytest.raises(EvaluationError, match=rf"{gone.name}: no such file, and test-\d+-of-{len(parts):05d}"):
            read_beir(folder, name="s", role="test")


def test_one_part_of_judgments_stands_for_all(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "test", [dict(row) for row in _ROWS], [3, 11])
    assert read_qrels(parts[0]) == read_qrels(parts[2]) == {f"q{n}": {f"d{n}": 1} for n in range(20)}


def test_two_files_of_one_split_are_refused_and_a_table_beside_another_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    (folder / "corpus.csv").write_text("")
    assert read_beir(folder, name="s", role="test").notes == ("corpus.jsonl: corpus.csv beside it is not read",)
    (folder / "qrels" / "dev.tsv").write_text(_HEADED)
    write_columns(folder / "qrels" / "dev.parquet", ["query-id", "corpus-id", "score"], [("q1", "d1", 1)])
    read_beir(folder, name="s", role="test")  # nobody asks for dev
    (folder / "qrels" / "test.txt").write_text(_TREC)

    with pytest.raises(EvaluationError, match=r"test\.txt: test\.tsv beside it has judgments of the same split"):
        read_beir(folder, name="s", role="test")
    assert len(read_beir(folder / "qrels" / "test.txt", name="s", role="test").queries) == 20


@pytest.mark.parametrize("indent", [None, 4])
def test_a_file_that_is_no_set_is_named_with_its_keys(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "li.json"
    value = {"queries": {"q": "How?"}, "corpus": {"d": "So."}, "relevant_docs": {"q": ["d"]}, "mode": "text"}
    path.write_text(json.dumps(value, indent=indent), encoding="utf-8")

    with pytest.raises(SourceError, match=r"li\.json: .*keys are 'queries', 'corpus', 'relevant_docs', 'mode'; name"):
        find_beir(path)
