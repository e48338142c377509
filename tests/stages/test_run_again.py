"""Runs that go on: after a change of settings, a limit that was raised, and a kill -9."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from tests.stages.chat_endpoint import ChatEndpoint, run_values

from multigrain.config.file import parse_config
from multigrain.errors import RunMismatchError
from multigrain.stages import run, run_stages

pytestmark = pytest.mark.usefixtures("api_key")


def test_a_changed_setting_is_refused_and_redone_on_request_with_the_completions_kept(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    stages = ["documents", "synthesis", "audit"]
    run_stages(parse_config(values), tmp_path / "run", stages)
    asked = len(endpoint.prompts)
    values["audit"]["min_level_gap"] = 0.001
    values["synthesis"]["document_characters"] = 3999

    with pytest.raises(RunMismatchError, match=r"synthesis\.document_characters was 4000, now 3999"):
        run_stages(parse_config(values), tmp_path / "run", stages)
    run_stages(parse_config(values), tmp_path / "run", stages, redo=True)

    assert len(endpoint.prompts) == asked


def test_a_limit_that_is_raised_goes_on_writing_and_one_that_did_not_matter_changes_nothing(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url, concurrency=1)
    stages = ["documents", "synthesis", "audit"]
    values["synthesis"]["max_total_tokens"] = 200
    held = run_stages(parse_config(values), tmp_path / "run", stages)
    first = held.require("synthesis", "").counts
    assert first["stopped_by_limit"]
    rows = pq.read_table(held.dataset_path).num_rows

    values["synthesis"] |= {"max_total_tokens": 1_000_000, "budget_seconds": 1000.0}
    asked = len(endpoint.prompts)
    held = run_stages(parse_config(values), tmp_path / "run", stages)
    second = held.require("synthesis", "").counts
    assert second["written"] == second["requested"] > first["written"]
    assert len(endpoint.prompts) - asked == second["written"] - first["written"]
    assert pq.read_table(held.dataset_path).num_rows > rows

    values["synthesis"] |= {"max_cost": 5.0, "max_total_tokens": 900_000, "budget_seconds": None}
    finished = held.require("dataset", "").finished_at
    assert run_stages(parse_config(values), tmp_path / "run", stages).require("dataset", "").finished_at == finished


def test_a_raised_limit_lets_no_other_changed_setting_through(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url, concurrency=1)
    stages = ["documents", "synthesis", "audit"]
    values["synthesis"]["max_total_tokens"] = 200
    held = run_stages(parse_config(values), tmp_path / "run", stages)
    made = {name: held.require(name, "") for name in ("synthesis", "dataset")}
    asked = len(endpoint.prompts)

    values["llm"]["temperature"] = 0.3
    values["synthesis"]["max_total_tokens"] = 1_000_000
    with pytest.raises(RunMismatchError, match=r"llm\.temperature was 0\.8, now 0\.3.*--redo"):
        run_stages(parse_config(values), tmp_path / "run", stages)
    assert len(endpoint.prompts) == asked
    assert {name: held.require(name, "") for name in made} == made

    redone = run_stages(parse_config(values), tmp_path / "run", stages, redo=True).require("synthesis", "").counts
    assert redone["written"] == redone["requested"] == len(endpoint.prompts) - asked


def test_a_redone_stage_makes_everything_after_it_out_of_date(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["training"]["candidates"] = {"mean": {}}
    run(parse_config(values), tmp_path / "run")
    saved = (tmp_path / "run" / "config.yaml").read_text()
    values["audit"]["min_level_gap"] = 0.002
    changed = parse_config(values)

    for stage in ("training", "evaluation", "report"):
        with pytest.raises(RunMismatchError, match=r"level_gap was 0\.0, now 0\.002.*`multigrain run CONFIG --redo`"):
            run_stages(changed, tmp_path / "run", [stage])
    assert (tmp_path / "run" / "config.yaml").read_text() == saved
    run_stages(changed, tmp_path / "run", ["audit"], redo=True)
    with pytest.raises(RunMismatchError, match="models/mean"):
        run_stages(changed, tmp_path / "run", ["evaluation"])
    run(changed, tmp_path / "run", redo=True)

    assert "min_level_gap: 0.002" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_run_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.delay = 0.15
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(run_values(corpus_file, small_bert, endpoint.url, concurrency=2)))
    command = [sys.executable, "-m", "multigrain", "synthesize", str(config), "--run", str(tmp_path / "run"), "--json"]
    journal = tmp_path / "run" / "synthesis" / "journal.sqlite"

    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while len(endpoint.prompts) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journaled(journal)
    assert kept
    at_kill = len(endpoint.prompts)

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ})

    summary = json.loads(done.stdout)["synthesis"]
    asked_again = endpoint.prompts[at_kill:]
    assert summary["written"] == summary["requested"] == len(journaled(journal))
    assert kept.isdisjoint(asked_again)
    assert len(asked_again) == len(set(asked_again))


def journaled(path: Path) -> set[str]:
    """The prompts whose completions are in the journal."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT request FROM completions").fetchall()
    connection.close()
    return {json.loads(request)["messages"][-1]["content"] for (request,) in found}
