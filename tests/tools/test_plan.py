"""A plan: what a run takes, as far as it is known; and gains that are those of the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.sets.test_clusters import folder_of
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config import EvaluationSetConfig
from multigrain.config.file import parse_config
from multigrain.config.writers import KNOWN_WRITERS
from multigrain.display.numbers import count
from multigrain.evaluation.sets.retrieval_set import from_documents
from multigrain.records import Split
from multigrain.synthesis.inputs import load_inputs
from multigrain.tools.expected_gain import (
    LARGER_WRITER,
    SMALL_WRITER,
    MeasuredGain,
    expected_gain,
    queries_to_show,
    smallest_shown,
)
from multigrain.tools.plan import plan_run
from multigrain.tools.speed import busy_notes

RESULTS = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("measured", [*SMALL_WRITER, *LARGER_WRITER], ids=lambda measured: measured.name)
def test_measured_gains_are_those_of_the_results_page(measured: MeasuredGain) -> None:
    cell = f"{measured.gain:+.1f} [{measured.low:+.1f}, {measured.high:+.1f}]"
    cells = (cell, cell.replace("+0.0", "-0.0", 1), cell.replace("+0.0]", "0.0]"))
    rows = [line for line in RESULTS.splitlines() if line.startswith(f"| {measured.name}")]
    assert any(form in row and count(measured.queries) in row for row in rows for form in cells), cells


@given(st.floats(0.1, 50), st.integers(1, 10**6))
def test_queries_and_differences_answer_each_other(points: float, queries: int) -> None:
    needed = queries_to_show(points)
    assert smallest_shown(needed) <= points * 1.0001
    assert smallest_shown(queries) > smallest_shown(queries + 1)
    if needed > 1:
        assert smallest_shown(needed - 1) > points * 0.9999


def test_the_expected_gain_is_that_of_the_nearest_writer() -> None:
    small, unknown = expected_gain(KNOWN_WRITERS[0]), expected_gain(None)
    assert (small.sets, small.mean, small.least, small.most) == (5, 2.1, -0.6, 4.4)
    assert unknown.sets == 4
    assert unknown.least <= unknown.mean <= unknown.most


def test_a_plan_counts_what_a_run_will_do_and_measures_this_machine(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    config = parse_config(
        {
            "documents": {"path": str(corpus_file)},
            "llm": {"provider": "scripted"},
            "synthesis": {"strategy": "stepwise"},
            "training": {"base_model": str(small_bert), "steps": 3, "batch_size": 4, "max_seq_length": 32},
        }
    )
    plan = plan_run(config, tmp_path / "run")

    assert plan.documents["documents"] == sum(count for name, count in plan.documents.items() if name != "documents")
    assert plan.estimate.rows == plan.documents["train"]
    assert plan.test_queries == plan.documents["test"]
    assert plan.steps == {"tuned": 3}
    parts = (plan.time.synthesis, plan.time.audit, plan.time.training, plan.time.evaluation)
    assert all(part is not None and part > 0 for part in parts)
    assert plan.time.total == pytest.approx(sum(part or 0 for part in parts))
    rates, choosing = (note for note in plan.notes if "this machine is busy" not in note)
    assert choosing.startswith(f"{plan.documents['validation']} validation queries are too few to choose by")
    assert rates.startswith("training is done at each learning rate, 2e-05 and 5e-06")
    assert not (tmp_path / "run").exists()
    labelled = folder_of(tmp_path / "labelled", ["ann", "bob", "cid"])
    sets = [EvaluationSetConfig(name="ours", path=str(labelled), role="test")]
    tested = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"sets": sets})})
    assert plan_run(tested, tmp_path / "run", probe=False).test_queries == 3
    elsewhere = [EvaluationSetConfig(name="theirs", path="mteb:SciFact", role="test")]
    unread = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"sets": elsewhere})})
    assert plan_run(unread, tmp_path / "run", probe=False).test_queries is None
    more = config.model_copy(update={"training": config.training.model_copy(update={"steps": 300})})
    longer = plan_run(more, tmp_path / "run")
    assert (longer.time.training or 0) > (plan.time.training or 0)


def test_an_endpoint_is_not_asked_and_what_is_not_here_is_said(tmp_path: Path, corpus_file: Path) -> None:
    config = parse_config(
        {
            "documents": {"path": str(corpus_file)},
            "llm": {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"},
            "training": {"base_model": "nobody/has-this"},
        }
    )
    plan = plan_run(config, tmp_path)

    assert plan.time.assumed
    assert plan.time.total is None
    assert plan.estimate.cost is None
    assert "nobody/has-this is not on this machine yet" in plan.notes[0]


def test_times_of_a_busy_machine_are_said_to_be_that() -> None:
    assert busy_notes(10.0, 9.0) == busy_notes(10.0, 19.0) == busy_notes(0.0, 0.0) == []
    assert "measuring got 5% of one core" in busy_notes(430.0, 22.0)[0]


def test_a_long_plan_says_what_makes_it_shorter(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multigrain.tools.plan.tokens_per_second", lambda config, sample: 0.1)
    config = parse_config(
        {
            "documents": {"path": str(corpus_file)},
            "llm": {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"},
            "training": {"base_model": str(small_bert), "steps": 90},
        }
    )
    notes = plan_run(config, tmp_path / "run").notes

    assert any(note.startswith("for a first try: training.steps: 45 trains less") for note in notes), notes


def test_the_command_prints_a_plan_and_as_json(tmp_path: Path, corpus_file: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"documents: {{path: '{corpus_file}'}}\n"
        "llm: {provider: openai, base_url: 'http://127.0.0.1:9/v1', model: m,\n"
        "  prices: {m: {prompt: 1, completion: 2}}}\n"
    )
    shown = CliRunner().invoke(app, ["plan", str(config), "--no-probe"])
    as_json = CliRunner().invoke(app, ["plan", str(config), "--no-probe", "--json"])

    assert shown.exit_code == 0, shown.output
    words = [line.split()[0] for line in shown.stdout.splitlines() if not line.startswith(" ")]
    assert words == ["documents", "rows", "requests", "cost", "time", "test", "training", "gain"]
    values = json.loads(as_json.stdout)
    assert values["estimate"]["cost"] > 0
    assert values["total_seconds"] is None
    assert "prompts" not in values["estimate"]


SIZING = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "sizing.md").read_text(encoding="utf-8")


def test_the_sizing_page_has_the_figures_that_a_plan_goes_by() -> None:
    page = SIZING.replace("−", "-")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) > 3
    assert [(queries, f"{smallest_shown(int(queries.replace(',', ''))):.1f}") for queries, _ in rows] == rows
    for measured in (*SMALL_WRITER, *LARGER_WRITER):
        plain = f"{measured.gain:+.1f} [{measured.low:.1f}, {measured.high:.1f}]".replace("+0.0 ", "0.0 ")
        assert any(line.startswith(f"| {measured.name}") and plain in line for line in page.splitlines()), plain


def test_chunks_that_share_a_title_are_one_test_query_in_a_plan_as_in_a_run(tmp_path: Path) -> None:
    path = tmp_path / "manual.jsonl"
    rows = [
        {"title": f"Chapter {number}", "text": " ".join(f"Sentence {part} of chapter {number}." for part in range(60))}
        for number in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    documents = {"path": str(path), "chunk_size": 60}
    config = parse_config(
        {"documents": documents, "llm": {"provider": "scripted"}, "evaluation": {"queries": "titles"}}
    )

    plan = plan_run(config, tmp_path / "run", probe=False)

    asked = from_documents(load_inputs(config).documents, Split.TEST, "test", "test")
    assert plan.test_queries == len(asked.queries)
    assert len(asked.queries) < plan.documents["test"]


def test_no_gain_is_named_for_queries_that_are_given(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(f'{{"query": "ask {n}", "positive": "the answer number {n}"}}\n' for n in range(40)))
    config = tmp_path / "c.yaml"
    config.write_text(f"start_from: pairs\npairs: {{path: '{pairs}'}}\nllm: {{provider: scripted}}\n")

    shown = CliRunner().invoke(app, ["plan", str(config), "--no-probe"], catch_exceptions=False)
    assert "\ngain" not in shown.stdout
    assert "your queries are given: no gain is named" in shown.stdout
    found = json.loads(CliRunner().invoke(app, ["plan", str(config), "--no-probe", "--json"]).stdout)
    assert (found["gain"], found["queries_for_gain"]) == (None, None)
