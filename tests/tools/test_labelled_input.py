"""What `multigrain init` makes of labelled queries, and what it says of a path that holds them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import load_config, parse_config
from multigrain.errors import SourceError
from multigrain.evaluation.sets.loading import open_sets
from multigrain.sources.load import read_documents
from multigrain.sources.pairs import load_pairs
from multigrain.sources.source import look_at_input
from multigrain.tools.labelled_input import ENOUGH_TO_TRAIN, look_for_labels
from multigrain.tools.plan import plan_run
from multigrain.tools.start import Start, start_text


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """What a help desk exports: columns that nobody asked for, quotes, and line ends in cells."""
    path = tmp_path / "tickets.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(["Ticket ID", "Created at", "Question", "Answer", "Tags"])
        for n in range(30):
            question, answer = f'How do I open "drawer {n}"?', f"Pull handle {n},\n\nthen press the button number {n}."
            table.writerow([f"#{n}", "05/01/2026 18:59", question, answer, "a, b"])
    return path


def beir(folder: Path, **splits: int) -> Path:
    """A BEIR folder with so many judged queries of each split."""
    (folder / "qrels").mkdir(parents=True)
    texts = [
        f"Shelf {n} holds the tools of section {n}, and what belongs to them." for n in range(sum(splits.values()))
    ]
    for name, words in (("corpus", texts), ("queries", [f"where is tool {n}" for n in range(len(texts))])):
        rows = (json.dumps({"_id": f"{name[0]}{n}", "text": text}) for n, text in enumerate(words))
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    first = 0
    for split, count in splits.items():
        lines = [f"q{n}\tc{n}\t1" for n in range(first, first + count)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
        first += count
    return folder


def test_a_table_of_questions_and_answers_trains_and_tests(tickets: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tickets.parent / "c.yaml"), "--documents", str(tickets)])
    config = load_config(tickets.parent / "c.yaml")

    assert done.exit_code == 0
    assert "the columns 'Question' and 'Answer' are taken for queries and their answers" in done.stderr
    assert (config.start_from, config.synthesis.strategy) == ("pairs", "mined-bands")
    corpus = load_pairs(config.pairs, config.documents, seed=config.seed)
    assert {query.text for query in corpus.queries} == {f'How do I open "drawer {n}"?' for n in range(30)}
    assert {str(query.split) for query in corpus.queries} == {"train", "validation", "test"}


def test_an_endpoint_writes_the_negatives_of_given_queries(tickets: Path) -> None:
    made = start_text(Start(str(tickets), base_url="http://h:1/v1", full=True), path=tickets.parent / "c.yaml")
    config = parse_config(yaml.safe_load(made.text))

    assert (config.start_from, config.llm.base_url, config.synthesis.strategy) == ("pairs", "http://h:1/v1", "mgh")


def test_few_labels_of_a_beir_folder_test_and_choose(tmp_path: Path) -> None:
    beir(tmp_path / "labels", train=20, test=12, dev=8)
    made = start_text(Start("labels"), path=tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(made.text)
    config = load_config(tmp_path / "c.yaml")

    assert config.start_from == "documents"
    assert len(list(read_documents(config.documents)[0])) == 40
    assert "too few to start from" in made.notes[0]
    opened = open_sets(config.evaluation.sets, seed=1).retrieval
    assert {each.role: len(each.queries) for each in opened} == {"test": 12, "validation": 8}
    # They test and choose, so that every document is trained on.
    assert (config.documents.validation_share, config.documents.test_share) == (0, 0)
    assert len(made.text.splitlines()) <= 40


def test_many_labels_of_a_beir_folder_train(tmp_path: Path) -> None:
    beir(tmp_path / "labels", train=ENOUGH_TO_TRAIN, test=5)
    made = start_text(Start("labels"), path=tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(made.text)
    config = load_config(tmp_path / "c.yaml")

    assert config.start_from == "pairs"
    assert len(load_pairs(config.pairs, config.documents, seed=1).queries) == ENOUGH_TO_TRAIN
    assert [(each.role, Path(each.path or "").name) for each in config.evaluation.sets] == [("test", "test.tsv")]


def test_what_holds_no_labels_is_left_alone(tmp_path: Path, corpus_file: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\ntext\n")
    for path in (tmp_path, corpus_file, tmp_path / "nowhere.csv", tmp_path / "a.md"):
        assert look_for_labels(path, shown="x") is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "corpus.jsonl",
            '{"_id": "c0", "text": "a"}\n{"_id": "c0", "text": "b"}\n',
            "corpus.jsonl:2: id 'c0' is taken",
        ),
        ("qrels/test.tsv", "qid\tdocid\tusefulness\nq0\tc0\t0\n", "test.tsv:2: no column is known to hold the grades"),
        ("corpus.jsonl.gz", "", "corpus.jsonl.gz: compressed files are not read; unpack it first"),
        ("queries.jsonl.zst", "", "e.g. `unzstd queries.jsonl.zst`"),
        ("qrels/test.tsv.gz", "", "test.tsv.gz: compressed files are not read"),
    ],
)
def test_init_says_why_labels_cannot_be_read(tmp_path: Path, name: str, content: str, reason: str) -> None:
    folder = beir(tmp_path / "labels", test=12)
    changed = folder / name
    changed.with_suffix("").unlink(missing_ok=True)
    changed.write_text(content)

    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--documents", str(folder)])

    assert isinstance(done.exception, SourceError)
    assert reason in str(done.exception)
    assert not (tmp_path / "c.yaml").exists()


def test_init_and_plan_agree_on_a_folder_of_parquet_tables(tmp_path: Path) -> None:
    folder = beir(tmp_path / "labels", test=12)
    for name in ("corpus", "queries"):
        table = pa.Table.from_pylist(list(map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines())))
        (folder / f"{name}.jsonl").unlink()
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "test-00000-of-00001.parquet")
    judged = [{"query-id": f"q{n}", "corpus-id": f"c{n}", "score": 1} for n in range(12)]
    (folder / "qrels" / "test.tsv").unlink()
    for number, rows in enumerate((judged[:5], judged[5:])):
        pq.write_table(pa.Table.from_pylist(rows), folder / "qrels" / f"test-0000{number}-of-00002.parquet")

    made = start_text(Start("labels"), path=tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(made.text)
    config = load_config(tmp_path / "c.yaml")

    assert "(12 test)" in made.notes[0]
    assert "12 documents" in look_at_input(config).summary
    assert [len(each.queries) for each in open_sets(config.evaluation.sets, seed=1).retrieval] == [12]


@pytest.mark.parametrize("name", ["default/test.tsv", "qrels.test.tsv", "qrels.tsv"])
def test_judgments_that_lie_elsewhere_are_evaluated_by_what_init_writes(tmp_path: Path, name: str) -> None:
    folder = beir(tmp_path / "labels", test=12)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / "qrels" / "test.tsv").rename(folder / name)

    made = start_text(Start("labels"), path=tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(made.text)

    opened = open_sets(load_config(tmp_path / "c.yaml").evaluation.sets, seed=1)
    assert [len(each.queries) for each in opened.retrieval] == [12]


def test_labels_named_as_documents_are_refused_with_what_to_do(tmp_path: Path, tickets: Path) -> None:
    folder = beir(tmp_path / "labels", test=12)
    for path, words in (
        (tickets, "start_from: pairs and pairs.path; or documents.text_field: Answer"),
        (folder, "a BEIR"),
    ):
        config = parse_config({"documents": {"path": str(path)}})
        with pytest.raises(SourceError, match=words):
            list(read_documents(config.documents)[0])


def test_a_plan_of_given_queries_knows_its_test_and_asks_nobody(tickets: Path) -> None:
    config = parse_config(
        {"start_from": "pairs", "pairs": {"path": str(tickets)}, "synthesis": {"strategy": "mined-bands"}}
    )
    plan = plan_run(config, tickets.parent / "run", probe=False)

    corpus = load_pairs(config.pairs, config.documents, seed=config.seed)
    assert plan.test_queries == sum(str(query.split) == "test" for query in corpus.queries)
    assert plan.estimate.requests == 0
    assert any("your queries are given" in note for note in plan.notes)
