from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.config import EvaluationSetConfig
from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.beir import read_beir
from multigrain.evaluation.sets.loading import load_evaluation_set
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.sources.judgments import read_qrels

CORPUS = [
    {"_id": "d1", "title": "Cats", "text": "They sleep."},
    {"_id": "d2", "title": "", "text": "Dogs bark."},
    {"_id": "d3", "text": "Owls hunt."},
]
QUERIES = [{"_id": "q1", "text": "sleep"}, {"_id": "q2", "text": "bark"}, {"_id": "train-only", "text": "hunt"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td2\t1\nq2\td3\t0\n"


def write(folder: Path, corpus=CORPUS, queries=QUERIES, qrels: str | bytes = QRELS) -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = rows if isinstance(rows, str) else "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    raw = qrels if isinstance(qrels, bytes) else qrels.encode()
    (folder / "qrels" / "test.tsv").write_bytes(raw)
    return folder


def read(folder: Path) -> EvaluationSet:
    return read_beir(folder, name="mine", role="test")


def test_a_folder_is_read_as_beir_and_mteb_read_it(tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert found.corpus == {"d1": "Cats They sleep.", "d2": "Dogs bark.", "d3": "Owls hunt."}
    assert found.queries == {"q1": "sleep", "q2": "bark"}, "queries without judgments belong to other splits"
    assert found.qrels == {"q1": {"d1": 2}, "q2": {"d2": 1, "d3": 0}}


def test_trec_qrels_and_numeric_ids_are_understood(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        corpus=[{"_id": 1, "title": None, "text": "one"}],
        queries=[{"id": "7", "text": "seven"}],
        qrels="7 0 1 3\n",
    )
    assert read(folder).qrels == {"7": {"1": 3}}


def test_one_qrels_file_can_be_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "qrels" / "dev.tsv").write_text("q1\td3\t1\n")
    assert read(folder / "qrels" / "dev.tsv").qrels == {"q1": {"d3": 1}}
    assert set(read(folder).qrels) == {"q1", "q2"}, "test.tsv is what a folder stands for"
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "train.tsv")
    with pytest.raises(EvaluationError, match=r"2 files and no test\.tsv"):
        read(folder)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"corpus": [*CORPUS, CORPUS[0]]}, "corpus.jsonl:4: id 'd1' is taken by line 1"),
        ({"queries": [*QUERIES, QUERIES[1]]}, "queries.jsonl:4: id 'q2' is taken by line 2"),
        ({"corpus": '{"_id": "d1", "text": '}, "corpus.jsonl:1: not JSON"),
        ({"corpus": '["d1"]'}, "corpus.jsonl:1: expected an object, got list"),
        ({"corpus": [{"_id": "d1", "text": 5}]}, "corpus.jsonl:1: 'text' is int, not text"),
        (
            {"queries": [{"_id": "q1", "text": "  "}, QUERIES[1]]},
            "'q1', number 1 in queries.jsonl, which has no text",
        ),
        ({"qrels": "q1\td1\n"}, "test.tsv:1: 2 columns"),
        ({"qrels": "q1\td1\tgood\n"}, "test.tsv:1: grade 'good' is not a whole number"),
        ({"qrels": "q1\td1\t1\nq1\td1\t2\n"}, "test.tsv:2: document 'd1' is judged 2 for query 'q1', and 1 above"),
        ({"qrels": "q1\tmissing\t1\n"}, "test.tsv:1: corpus-id 'missing' is not in corpus.jsonl"),
        ({"qrels": "missing\td1\t1\n"}, "test.tsv:1: query-id 'missing' is not in queries.jsonl"),
        ({"qrels": QRELS + "missing\td1\t1\n"}, "test.tsv:5: query-id 'missing' is not in queries.jsonl"),
        ({"qrels": "q1\td1\t0\n"}, "query 'q1' has no relevant document"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "no relevance judgments"),
        ({"qrels": b"q1\td1\t1\nq\xff\td1\t1\n"}, "test.tsv:2: not UTF-8 (byte 0xff)"),
    ],
)
def test_bad_input_gets_one_line_that_names_the_place(tmp_path: Path, parts: dict[str, object], message: str) -> None:
    folder = write(tmp_path, **parts)
    with pytest.raises(EvaluationError) as caught:
        read(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match=r"no qrels/\*\.tsv"):
        read(tmp_path)
    folder = write(tmp_path)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(EvaluationError, match=r"no queries\.jsonl in it"):
        read(folder)


def test_other_table_formats_hold_the_same_set(tmp_path: Path) -> None:
    expected = read(write(tmp_path / "jsonl"))
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "corpus.csv").write_text("_id,title,text\nd1,Cats,They sleep.\nd2,,Dogs bark.\nd3,,Owls hunt.\n")
    pq.write_table(
        pa.Table.from_pylist([{"id": row["_id"], "text": row["text"]} for row in QUERIES]), folder / "queries.parquet"
    )
    (folder / "qrels.txt").write_text("q1 0 d1 2\nq2 0 d2 1\nq2 0 d3 0\n")
    assert read(folder) == expected

    (folder / "corpus.csv").write_text("name,text\nd1,They sleep.\n")
    with pytest.raises(
        EvaluationError, match=r"csv:2: no column with the id \(_id, id, .*; its columns are 'name', 'text'"
    ):
        read(folder)


def test_a_repeated_but_equal_judgment_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_text("q1\td1\t1\nq1\td1\t1\n")
    assert read_qrels(path) == {"q1": {"d1": 1}}


def test_a_configured_folder_is_sampled(tmp_path: Path) -> None:
    config = EvaluationSetConfig(name="mine", path=str(write(tmp_path)), role="forgetting", max_queries=1)
    found = load_evaluation_set(config, seed=1)
    assert found.name == "mine"
    assert found.role == "forgetting"
    assert len(found.queries) == 1
