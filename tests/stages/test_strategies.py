"""Strategies from the config to the audited rows: mixes, few-shot examples, dry runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.dataset.store import read_rows
from multigrain.errors import RunMismatchError
from multigrain.llm.session.journal import Journal
from multigrain.stages import run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.synthesis_estimate import dry_run


def config(corpus: Path, **synthesis: Any) -> Config:
    return parse_config({"documents": {"path": str(corpus)}, "llm": {"provider": "scripted"}, "synthesis": synthesis})


def counts(folder: Path) -> dict[str, Any]:
    return RunDirectory(folder).require("synthesis", "multigrain synthesize").counts


def test_a_mix_writes_each_row_by_one_of_its_strategies_and_says_so(tmp_path: Path, corpus_file: Path) -> None:
    mixed = config(corpus_file, strategy={"over-generate": 1, "mined": 1})
    expected = dry_run(mixed, tmp_path / "run")

    run_stages(mixed, tmp_path / "run", ["documents", "synthesis"])

    rows = read_rows(RunDirectory(tmp_path / "run").rows_path)
    found = counts(tmp_path / "run")
    assert Counter(row.strategy for row in rows) == found["written_by"]
    assert found["written_by"] == {name: share.rows for name, share in expected.strategies.items()}
    assert found["strategy"] == "mined 50%, over-generate 50%"
    with Journal(RunDirectory(tmp_path / "run").journal_path) as journal:
        asked = Counter(entry.strategy for entry in journal.entries())
        totals = journal.totals()
    assert asked == {name: share.requests for name, share in expected.strategies.items()}
    assert totals.completions == expected.requests
    assert {row.mining for row in rows if row.strategy == "mined"} == {"nearest"}
    assert all(row.candidates for row in rows if row.strategy == "over-generate")


def test_another_mix_asks_only_for_rows_that_change_hands(tmp_path: Path, corpus_file: Path) -> None:
    run_stages(config(corpus_file, strategy="single", query_first=False), tmp_path / "run", ["documents", "synthesis"])
    mixed = config(corpus_file, strategy={"single": 2, "mined": 1}, query_first=False)

    with pytest.raises(RunMismatchError, match=r"synthesis\.strategy"):
        run_stages(mixed, tmp_path / "run", ["synthesis"])
    estimate = dry_run(mixed, tmp_path / "run")

    assert estimate.in_journal == estimate.strategies["single"].rows > estimate.strategies["mined"].rows > 0
    assert estimate.strategies["single"].prompt_tokens == 0


def test_changed_examples_make_the_rows_out_of_date(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text(json.dumps({"document": "d", "query": "first"}))
    settings = config(corpus_file, strategy="mined-bands", few_shot="fixed", few_shot_path=str(path))
    run_stages(settings, tmp_path / "run", ["documents", "synthesis"])
    run_stages(settings, tmp_path / "run", ["synthesis"])

    path.write_text(json.dumps({"document": "d", "query": "second"}))

    with pytest.raises(RunMismatchError):
        run_stages(settings, tmp_path / "run", ["synthesis"])
    assert dry_run(settings, tmp_path / "run").in_journal == 0


def test_a_template_of_the_users_own_is_asked_and_a_changed_one_makes_the_rows_out_of_date(
    tmp_path: Path, corpus_file: Path
) -> None:
    template = tmp_path / "words" / "query.jinja"
    template.parent.mkdir()
    template.write_text("{% block user %}Dear model, ask for {{ document }}, a {{ style.query_type }}.{% endblock %}")
    settings = config(corpus_file, strategy="mined-bands", templates=str(template.parent))
    run = run_stages(settings, tmp_path / "run", ["documents", "synthesis"])

    with Journal(run.journal_path) as journal:
        asked = [entry.request["messages"][-1]["content"] for entry in journal.entries()]
    prompts = [text for text in asked if text.startswith("Dear model, ask for ")]
    assert len(prompts) == len(read_rows(run.rows_path)) > 10
    run_stages(settings, tmp_path / "run", ["synthesis"])  # complete, and skipped

    template.write_text(template.read_text().replace("Dear", "Esteemed"))

    with pytest.raises(RunMismatchError):
        run_stages(settings, tmp_path / "run", ["synthesis"])
    assert dry_run(settings, tmp_path / "run").in_journal == 0


def test_examples_are_ranked_once_by_a_real_model_and_the_ranking_is_kept(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "examples.jsonl"
    texts = {
        "The ferry leaves at nine.": "when does the ferry leave",
        "The bakery closes at six.": "when does the bakery close",
        "purple": "zzz qqq",
    }
    path.write_text("\n".join(json.dumps({"document": text, "query": query}) for text, query in texts.items()))
    settings = config(
        corpus_file, strategy="mined-bands", few_shot="likelihood", few_shot_path=str(path), few_shot_count=1
    )
    assert "The ferry leaves" in dry_run(settings, tmp_path / "run").prompts[0][-1].content  # nothing ranked yet

    run_stages(settings, tmp_path / "run", ["documents", "synthesis"])

    ranking = tmp_path / "run" / "synthesis" / "few_shot.json"
    ranked = json.loads(ranking.read_text())["ranked"]
    assert len(ranked) == 3
    assert ranked[-1]["example"]["document"] == "purple"
    made = ranking.stat().st_mtime_ns
    shown = dry_run(settings, tmp_path / "run").prompts[0][-1].content
    assert ranked[0]["example"]["document"] in shown
    assert ranking.stat().st_mtime_ns == made
