"""Whole runs whose queries are judged, need two passages or follow a style; and runs that ask for little."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.stages.chat_endpoint import ChatEndpoint, graded_answer, run_values

from multigrain.config.file import parse_config
from multigrain.errors import ConfigError
from multigrain.llm.session.journal import Journal
from multigrain.stages import run, run_stages
from multigrain.synthesis.query_judge import QUERY_JUDGE
from multigrain.tools.synthesis_estimate import dry_run

pytestmark = pytest.mark.usefixtures("api_key")
WRITTEN = ["documents", "synthesis", "audit"]


def _judging(body: dict[str, Any]) -> str:
    """Judge every query whose first word ends in an odd digit to be no query."""
    prompt: str = body["messages"][-1]["content"]
    if '"self_contained"' not in prompt:
        return graded_answer(body)
    query = prompt.partition("<query>\n")[2].partition("\n</query>")[0]
    natural = 2 if query.split()[0][-1] in "13579" else 9
    return json.dumps({"self_contained": 9, "natural": natural, "one_intent": 9, "answered": 9})


def test_queries_are_judged_in_training_rows_and_held_out_ones_counted_and_not_asked_again(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.answer = _judging
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["audit"] |= {"query_judge": {"at_least": 5}, "max_query_similarity": None}
    values["evaluation"]["queries"] = "synthetic"
    config = parse_config(values)
    before = dry_run(config, tmp_path / "run").strategies
    finished = run_stages(config, tmp_path / "run", WRITTEN)

    reasons = Counter(
        row["reason"] for row in pq.read_table(finished.rejects_path).to_pylist() if row["part"] == "row"
    )
    kept = [row["query"] for row in pq.read_table(finished.dataset_path).to_pylist()]
    assert reasons["judged_query"] > 0
    assert all(query.split()[0][-1] in "02468" for query in kept)
    audit = json.loads(finished.audit_path.read_text())
    assert audit["query_judge"]["refused"] == reasons["judged_query"]
    heldout = [json.loads(line)["query"] for line in finished.heldout_queries_path.read_text().splitlines()]
    assert heldout
    assert all(query.split()[0][-1] in "02468" for query in heldout)
    failed = finished.manifest("synthesis").counts["heldout_failed"]
    assert failed["judged_query"] > 0
    judged = [prompt for prompt in endpoint.prompts if '"self_contained"' in prompt]
    assert len(judged) == len(set(judged))
    # Rows that other checks turn away are not judged, so that the estimate is at most above.
    assert len(judged) <= before[QUERY_JUDGE].requests <= len(judged) + sum(reasons.values())
    with Journal(finished.journal_path, create=False) as journal:
        assert QUERY_JUDGE in journal.usual_lengths()

    asked = len(endpoint.prompts)
    for stage in ("synthesis", "dataset"):
        finished.invalidate(stage)
    run_stages(config, tmp_path / "run", WRITTEN)
    assert len(endpoint.prompts) == asked


def test_a_query_that_needs_two_passages_is_a_row_for_each_and_neither_is_its_negative(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    style = tmp_path / "queries.txt"
    style.write_text("boiler error E7\nradiator stays cold\n")
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["synthesis"] |= {"query_types": {"multi-passage": 1}, "query_first": True, "style_queries": str(style)}
    values["audit"]["max_query_similarity"] = None
    finished = run(parse_config(values), tmp_path / "run")

    assert any("Second text:" in prompt and "boiler error E7" in prompt for prompt in endpoint.prompts)
    rows = pq.read_table(finished.dataset_path).to_pylist()
    positives: dict[str, set[str]] = {}
    for row in rows:
        positives.setdefault(row["query"], set()).add(row["positive"])
    assert any(len(texts) == 2 for texts in positives.values())
    for row in rows:
        assert not {row[f"negative_{level}"] for level in (1, 2, 3, 4)} & positives[row["query"]]
    assert (finished.results_path / "evaluation.json").is_file()


@pytest.fixture
def labelled(tmp_path: Path, corpus_file: Path) -> Path:
    """A BEIR folder over the run's own documents."""
    folder = tmp_path / "labelled"
    (folder / "qrels").mkdir(parents=True)
    documents = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    corpus = [{"_id": document["id"], "text": document["text"]} for document in documents]
    queries = [
        {"_id": f"q{n}", "text": " ".join(document["text"].split()[2:6])} for n, document in enumerate(documents)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    lines = [f"q{n}\t{document['id']}\t1" for n, document in enumerate(documents)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    return folder


@pytest.mark.parametrize(
    ("training", "queries", "parts"),
    [
        ({"candidates": {"tuned": {}}}, "auto", set()),
        ({"candidates": {"tuned": {}}}, "synthetic", {"validation", "test"}),
        ({"candidates": {"tuned": {}}, "learning_rate": [1e-3, 1e-4]}, "auto", {"validation"}),
        ({}, "auto", {"validation"}),
    ],
)
def test_where_a_labelled_set_tests_only_what_something_is_chosen_by_is_written(
    tmp_path: Path,
    corpus_file: Path,
    small_bert: Path,
    endpoint: ChatEndpoint,
    labelled: Path,
    training: dict[str, Any],
    queries: str,
    parts: set[str],
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for line in corpus_file.read_text().splitlines():
        document = json.loads(line)
        (texts / f"{document['id']}.txt").write_text(document["text"])
    values = run_values(texts, small_bert, endpoint.url)
    values["training"] |= training
    values["evaluation"] = {
        "bootstrap_samples": 100,
        "queries": queries,
        "sets": [{"name": "own", "path": str(labelled)}],
    }
    finished = run(parse_config(values), tmp_path / "run")

    splits = {row["id"]: row["split"] for row in pq.read_table(finished.documents_path).to_pylist()}
    written = [json.loads(line)["document_id"] for line in finished.heldout_queries_path.read_text().splitlines()]
    assert {splits[identifier] for identifier in written} == parts
    results = {
        each["name"]: each for each in json.loads((finished.results_path / "evaluation.json").read_text())["sets"]
    }
    assert results.keys() == {"own", *parts}
    assert "of them on documents tuned on" in finished.report_path.read_text()
    trained_on = sum(split == "train" for split in splits.values())
    assert results["own"]["seen_queries"] == trained_on
    if parts:
        return
    # Without the labelled set the queries are needed after all, and the same run goes on to write them.
    del values["evaluation"]["sets"]
    with pytest.raises(ConfigError, match="labelled sets stood for held-out queries"):
        run_stages(parse_config(values), finished.path, ["evaluation"], redo=True)
    run_stages(parse_config(values), finished.path, ["documents", "synthesis"])
    assert finished.heldout_queries_path.read_text().count("\n") == len(splits) - trained_on


def test_all_documents_are_trained_on_and_all_labelled_questions_test(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, labelled: Path
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["documents"] |= {"validation_share": 0, "test_share": 0}
    values["training"]["candidates"] = {"tuned": {}}
    values["evaluation"] = {"bootstrap_samples": 100, "sets": [{"name": "own", "path": str(labelled)}]}
    finished = run(parse_config(values), tmp_path / "run")

    evaluated = json.loads((finished.results_path / "evaluation.json").read_text())
    results = {each["name"]: each for each in evaluated["sets"]}
    assert results.keys() == {"seen documents", "own"}
    assert results["own"]["seen_queries"] == results["own"]["queries"] == 60
    assert evaluated["chosen"] == "tuned"
    assert "all on documents tuned on" in finished.report_path.read_text()
