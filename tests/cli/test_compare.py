from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from multigrain.cli.compare import compare
from multigrain.errors import EvaluationError
from multigrain.evaluation.per_query import QueryRow, write_per_query

app = typer.Typer()
app.command()(compare)


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for query in range(60):
        base = float(rng.uniform(0.2, 0.6))
        for model, score in (("base", base), ("tuned", base + float(rng.normal(0.1, 0.1)))):
            rows.append(QueryRow("own", model, f"q{query}", f"ask {query}", score, 1.0, 1, ("d1",), ("d2",)))
    write_per_query(tmp_path / "per_query.parquet", rows)
    return tmp_path


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    words = ["cat", "dog", "owl", "bee", "fox"]
    corpus = [{"_id": word, "text": f"the {word} lives here"} for word in words]
    queries = [{"_id": f"q-{word}", "text": f"where is the {word}"} for word in words]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text("".join(f"q-{word}\t{word}\t1\n" for word in words))
    return folder


def test_results_are_told_in_sentences_with_wins_and_losses(results: Path) -> None:
    found = invoke(results, "--show", 2, "--samples", 500)
    assert found.exit_code == 0, found.output
    assert "own (60 queries): tuned is better than base." in found.stdout
    assert found.stdout.count("first answer at") == 4


def test_json_is_one_object_on_one_line_and_out_keeps_it(results: Path, tmp_path: Path) -> None:
    found = invoke(results, "--json", "--samples", 500, "--out", tmp_path / "kept")
    (line,) = found.stdout.strip().splitlines()
    summary = json.loads(line)
    (only,) = summary["comparisons"]
    assert (only["set"], only["model"], only["verdict"]) == ("own", "tuned", "better")
    assert json.loads((tmp_path / "kept" / "comparison.json").read_text()) == summary
    assert (tmp_path / "kept" / "per_query.parquet").is_file()


def test_models_are_scored_on_given_sets(beir: Path) -> None:
    found = invoke("all=bm25", "again=bm25", "--set", f"mine={beir}", "--json", "--samples", 100)
    assert found.exit_code == 0, found.output
    (only,) = json.loads(found.stdout.strip().splitlines()[-1])["comparisons"]
    assert (only["base"], only["model"], only["queries"]) == ("all", "again", 5)
    assert only["score"] == only["base_score"] == 1
    assert only["verdict"] == "not enough queries to tell", "five that agree are no proof"


def test_a_command_that_cannot_mean_anything_is_refused(results: Path, beir: Path) -> None:
    alone = invoke(results, "--set", beir)
    assert alone.exit_code == 2
    assert "at least two" in alone.output
    nothing = invoke("bm25", "auto")
    assert nothing.exit_code == 2
    assert "--set" in nothing.output
    unknown = invoke(results, "--base", "nope")
    assert isinstance(unknown.exception, EvaluationError)
