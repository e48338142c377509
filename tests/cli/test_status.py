"""`multigrain status` at every point of a run's life."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import load_config, parse_config
from multigrain.errors import MultigrainError, RunDirectoryError, RunMismatchError
from multigrain.stages import run_stages
from multigrain.stages.status import run_status
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.describe import describe

from .test_main import multigrain


def _config(corpus: Path) -> dict[str, object]:
    return {
        "documents": {"path": str(corpus)},
        "llm": {"provider": "scripted"},
        "training": {"steps": 200, "candidates": {"one": {}, "two": {"pooling": "ata"}}},
    }


def test_a_run_is_followed_from_its_first_stage(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "run"
    config = parse_config(_config(corpus_file))
    run_stages(config, path, ["documents"])
    states = {stage.name: stage.state for stage in run_status(path).stages}
    assert states == {
        "documents": "complete",
        "synthesis": "open",
        "dataset": "open",
        "models/one": "open",
        "models/two": "open",
        "results": "open",
    }

    run_stages(config, path, ["synthesis"])
    checkpoints = path / "checkpoints"
    (checkpoints / f"one-{'0a' * 6}-lr2e-05" / "checkpoint-7").mkdir(parents=True)
    (checkpoints / f"one-{'0a' * 6}-lr5e-06-kept").mkdir()
    (checkpoints / f"one-{'0a' * 6}-lr5e-06-kept" / "outcome.json").write_text("{}")
    (checkpoints / f"one-{'0c' * 6}-kept").mkdir()  # of other settings
    (checkpoints / f"one-{'0c' * 6}-kept" / "outcome.json").write_text("{}")
    os.utime(checkpoints / f"one-{'0c' * 6}-kept", (1, 1))
    (checkpoints / f"one-more-{'0b' * 6}" / "checkpoint-9").mkdir(parents=True)  # another candidate's
    found = run_status(path)
    by_name = {stage.name: stage for stage in found.stages}
    assert by_name["synthesis"].state == "complete"
    assert "written" in by_name["synthesis"].detail
    assert (by_name["models/one"].state, by_name["models/one"].detail) == (
        "begun",
        "1 training done, step 7 of 200",
    )
    assert found.journal["completions"] > 0
    assert found.holder is None
    assert "multigrain run" in found.advice


def test_who_works_there_is_named_and_not_disturbed(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "run"
    run_stages(parse_config(_config(corpus_file)), path, ["documents"])
    with RunDirectory(path).hold():
        holder = run_status(path).holder
        assert holder is not None
        assert holder.startswith("process ")
    assert run_status(path).holder is None


def test_the_command_prints_the_stages(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "run"
    run_stages(parse_config(_config(corpus_file)), path, ["documents"])
    done = multigrain("status", str(path), cwd=tmp_path)
    assert done.returncode == 0
    assert "documents" in done.stdout
    values = json.loads(multigrain("status", str(path), "--json", cwd=tmp_path).stdout)
    assert values["stages"][0]["state"] == "complete"


def test_why_the_last_attempt_failed_is_told_until_the_stage_is_finished(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "run"
    values = _config(corpus_file)
    parsed = parse_config(values)
    run_stages(parsed, path, ["documents"])
    assert run_status(path).failure is None
    with pytest.raises(MultigrainError) as caught:
        # More words than any document has: nothing is left to write for.
        run_stages(parse_config({**values, "audit": {"min_query_words": 50}}), path, ["synthesis", "audit"])

    found = run_status(path).failure
    assert found is not None
    assert (found.stage, found.message) == ("dataset", str(caught.value))
    assert (
        f"last attempt: dataset failed ({found.failed_at}): " in multigrain("status", str(path), cwd=tmp_path).stdout
    )

    with RunDirectory(path).hold():
        assert run_status(path).failure is None
    run_stages(parsed, path, ["audit"])
    assert run_status(path).failure is None


def test_audit_prints_its_summary_for_a_complete_run_too(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(json.dumps(_config(corpus_file)))
    run_stages(load_config(Path("c.yaml")), Path("runs/c"), ["documents", "synthesis"])
    first = CliRunner().invoke(app, ["audit", "c.yaml"], catch_exceptions=False)
    again = CliRunner().invoke(app, ["audit", "runs/c"], catch_exceptions=False)

    assert "dataset: complete since" in again.stderr
    assert again.stdout == first.stdout == f"{describe(Path('runs/c'))}\n"
    assert "graded rows about" in again.stdout


def test_a_config_that_has_changed_since_is_told_with_the_settings(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values, file = _config(corpus_file), tmp_path / "c.yaml"
    file.write_text(json.dumps(values))
    run_stages(load_config(file), Path("runs/c"), ["documents", "synthesis"])
    assert "has changed" not in run_status(Path("runs/c"), config_file=file).advice

    file.write_text(json.dumps({**values, "synthesis": {"candidates": 5, "max_total_tokens": 10**6}}))
    for said in (run_status(Path("runs/c")).advice, CliRunner().invoke(app, ["status", "c.yaml"]).output):
        assert "c.yaml asks for has changed since: stage 'synthesis' was completed with other settings" in said
        assert "(synthesis.candidates was 3, now 5)" in said
        assert "`multigrain run c.yaml --redo` runs it and what follows again" in said
    trained = CliRunner().invoke(app, ["train", "c.yaml"])
    assert isinstance(trained.exception, RunMismatchError)
    assert "`multigrain run c.yaml --redo` runs it and what follows again" in str(trained.exception)
    elsewhere = CliRunner().invoke(app, ["train", str(file), "--run", "runs/c"])
    assert f"`multigrain run {file} --run runs/c --redo`" in str(elsewhere.exception)


def test_a_table_that_changed_after_it_was_written_is_found(tmp_path: Path, corpus_file: Path) -> None:
    path = tmp_path / "run"
    run_stages(parse_config(_config(corpus_file)), path, ["documents", "synthesis"])
    done = multigrain("status", str(path), "--verify", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verified: 2 tables of" in done.stdout
    values = json.loads(multigrain("status", str(path), "--verify", "--json", cwd=tmp_path).stdout)
    table = path / "documents" / "documents.parquet"
    rows = path / "synthesis" / "rows.parquet"
    assert values["verified"] == {"tables": 2, "bytes": table.stat().st_size + rows.stat().st_size}

    raw = bytearray(table.read_bytes())
    raw[len(raw) // 3] ^= 1
    table.write_bytes(raw)
    done = multigrain("status", str(path), "--verify", cwd=tmp_path)
    assert done.returncode != 0
    assert "documents.parquet" in done.stderr
    assert "run the stage that wrote it again" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_there_is_no_run_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no run here"):
        run_status(tmp_path)
