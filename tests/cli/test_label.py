from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from multigrain.cli.label import label
from multigrain.errors import EvaluationError, StageOrderError
from multigrain.evaluation.per_query import QueryRow, write_per_query
from multigrain.evaluation.results import EvaluationResults, SetResult, write_results
from multigrain.records import Document, Split
from multigrain.sources.store import write_document_table
from multigrain.storage.rundir import RunDirectory

app = typer.Typer()
app.command()(label)

COUNT = 4


def invoke(*arguments: object, answers: str = ""):
    return CliRunner().invoke(app, [str(each) for each in arguments], input=answers)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    held = RunDirectory(tmp_path / "run")
    documents = [Document(f"d{n}", f"text of {n} \x1b[2J", group=n, split=Split.TEST) for n in range(2 * COUNT)]
    write_document_table(held.documents_path, documents)
    rows = [
        QueryRow("test", model, f"q{n}", f"ask {n}", 1.0, 1.0, 1, (f"d{n + shift}",), (f"d{n}",))
        for model, shift in (("base", 0), ("tuned", COUNT))
        for n in range(COUNT)
    ]
    write_per_query(held.results_path / "per_query.parquet", rows)
    sets = (SetResult("test", "test", "titles", COUNT, 2 * COUNT, {}, {}),)
    write_results(
        held.results_path / "evaluation.json", EvaluationResults("tuned", ("base", "tuned"), sets, 1, 0.95, 1)
    )
    held.finish("results", "print", {}, 1.0)
    held.config_path.write_text("{}\n")
    return held.path


def test_a_judge_stops_goes_on_and_gets_the_score(run: Path) -> None:
    first = invoke(run, "--depth", 1, answers="y\nx\nm\nn\nq\n")
    assert first.exit_code == 0, first.output
    assert "6 of 8 documents left to judge" in first.stdout
    assert "Not enough queries to tell" in first.stdout
    assert "tuned" not in first.output, "the judge is blind"
    assert "\x1b" not in first.output

    rest = invoke(run, "--depth", 1, "--json", answers="n\n" * 10)
    summary = json.loads(rest.stdout.strip().splitlines()[-1])
    assert (summary["judged"], summary["remaining"], summary["unanswered"]) == (4, 0, 3)

    # Judged by hand: everything that the base model found is right.
    path = run / "labels" / "test.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(json.dumps(line | {"grade": 2 * (line["document_id"][1:] < str(COUNT))}) + "\n" for line in lines)
    )
    done = invoke(run, "--depth", 1)
    assert "tuned" in done.stdout
    assert "nDCG@1 1.000 → 0.000" in done.stdout


def test_the_end_of_input_keeps_what_was_answered(run: Path) -> None:
    found = invoke(run, "--depth", 1, answers="y\ns\n")
    assert found.exit_code == 0
    assert "1 skipped" in found.stdout
    assert len((run / "labels" / "test.jsonl").read_text().splitlines()) == 2


def test_undo_on_the_command_line(run: Path) -> None:
    invoke(run, "--depth", 1, answers="u\ny\nu\nn\nq\n")
    (line,) = (run / "labels" / "test.jsonl").read_text().splitlines()
    assert json.loads(line)["grade"] == 0


def test_a_run_that_has_nothing_to_judge_says_so(run: Path, tmp_path: Path) -> None:
    assert isinstance(invoke(tmp_path / "none").exception, StageOrderError)
    (tmp_path / "empty.txt").write_text("\n\n")
    assert isinstance(invoke(run, "--queries", tmp_path / "empty.txt").exception, EvaluationError)
    assert isinstance(invoke(run, "--queries", tmp_path / "missing.txt").exception, EvaluationError)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for word in ("cat", "dog", "owl", "bee"):
        (tmp_path / "docs" / f"{word}.txt").write_text(f"the {word} lives here\n")
    (tmp_path / "asked.txt").write_text("where is the cat\nwhere is the dog\nwhere is the owl\n")
    return tmp_path


def test_models_are_judged_without_a_run_and_the_judgments_score_another_model(place: Path) -> None:
    from multigrain.cli.evaluate import evaluate

    arguments = ("one=bm25", "two=bm25", "--documents", place / "docs", "--queries", place / "asked.txt")
    kept = ("--out", place / "labels", "--depth", 1)
    first = invoke(*arguments, *kept, answers="y\nq\n")
    assert first.exit_code == 0, first.output
    assert "2 of 3 documents left to judge" in first.stdout
    done = invoke(*arguments, *kept, "--json", answers="y\nn\n")
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert (summary["judged"], summary["unanswered"]) == (3, 1)
    (only,) = summary["comparisons"]
    assert (only["base"], only["model"], only["label"]) == ("one", "two", "judged by a person")

    evaluating = typer.Typer()
    evaluating.command()(evaluate)
    evaluating.command()(label)
    found = CliRunner().invoke(evaluating, ["evaluate", "bm25", "--set", summary["set"], "--json"])
    assert found.exit_code == 0, found.output
    (scored,) = json.loads(found.stdout.strip().splitlines()[-1])["scores"]
    assert (scored["label"], scored["queries"], scored["documents"]) == ("judged by a person", 2, 4)
    assert scored["models"]["bm25"]["score"] == 1


def test_models_need_something_to_search(place: Path) -> None:
    found = invoke("bm25", "auto", "--queries", place / "asked.txt")
    assert found.exit_code == 2
    assert "--documents" in found.output
    twice = invoke("bm25", "bm25", "--documents", place / "docs", "--queries", place / "asked.txt", "--out", place)
    assert isinstance(twice.exception, EvaluationError)


@pytest.mark.parametrize("option", [("--trust-remote-code",), ("--documents", "handbook")])
def test_options_of_models_are_refused_for_a_run(option: tuple[str, ...], run: Path) -> None:
    refused = invoke(run, *option)

    assert refused.exit_code == 2
    assert f"{option[0]} is for models" in " ".join(refused.output.replace("│", " ").split())
