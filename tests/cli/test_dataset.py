"""`multigrain audit FILE` and `multigrain dataset`, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.errors import ConfigError, RunDirectoryError, SourceError

WORDS = ["river", "engine", "garden", "market", "signal", "bridge", "planet", "fabric", "recipe", "valley"]


@pytest.fixture
def audited(tmp_path: Path, small_bert: Path) -> Path:
    """A directory with the audit of a small file of somebody's."""
    theirs = tmp_path / "theirs.jsonl"
    texts = [f"{WORDS[n % 10]} {WORDS[n // 10]} w{n}" for n in range(40)]
    rows = [
        {"anchor": f"{text} query", "positive": text, "negative": texts[(n + 7) % 40]} for n, text in enumerate(texts)
    ]
    theirs.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = tmp_path / "audit.yaml"
    config.write_text(
        "audit: {round_trip_rank: null, false_negative_margin: 0, min_level_gap: 0}\n"
        f"training: {{base_model: {small_bert}, max_seq_length: 32, precision: float32}}\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(
        app,
        ["audit", str(theirs), "--config", str(config), "--run", str(tmp_path / "out"), "--json"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    summary = json.loads(done.stdout)
    assert summary["format"] == "sentence-transformers"
    assert summary["kept"] > 10
    return tmp_path / "out"


def run(*arguments: object) -> dict:
    done = CliRunner().invoke(app, ["dataset", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_what_was_audited_is_exported_converted_and_written_for_the_hub(audited, tmp_path) -> None:
    exported = run("export", audited, "--to", tmp_path / "out.jsonl", "--format", "tevatron")
    converted = run(
        "convert", tmp_path / "out.jsonl", "--to", tmp_path / "back.csv", "--format", "sentence-transformers"
    )
    written = run("push", audited, "me/my-set", "--dry-run", "--license", "mit", "--language", "en")

    assert exported["rows"] == converted["rows"] == written["rows"]
    assert converted["from"] == "tevatron"
    assert (tmp_path / "back.csv").read_text(encoding="utf-8").startswith("anchor,positive,negative_1,")
    assert written["private"]
    assert "commit" not in written
    assert "# my-set" in (Path(written["folder"]) / "README.md").read_text(encoding="utf-8")


def test_a_folder_with_files_of_somebody_elses_is_left_alone(audited: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")

    with pytest.raises(SourceError, match=r"precious: holds other files already, such as thesis\.txt"):
        CliRunner().invoke(
            app,
            ["dataset", "push", str(audited), "me/x", "--dry-run", "--folder", str(precious)],
            catch_exceptions=False,
        )

    assert (precious / "thesis.txt").read_text() == "mine"
    for _ in range(2):  # its own files are replaced
        run("push", audited, "me/x", "--dry-run", "--folder", tmp_path / "hub")


def test_the_audit_of_a_file_replaces_no_runs_data_set(audited: Path, tmp_path: Path) -> None:
    (audited / "config.yaml").write_text("seed: 1\n")
    before = (audited / "dataset" / "graded.parquet").read_bytes()

    with pytest.raises(RunDirectoryError, match="out: holds a run, whose data set this would replace"):
        CliRunner().invoke(
            app, ["audit", str(tmp_path / "theirs.jsonl"), "--run", str(audited)], catch_exceptions=False
        )

    assert (audited / "dataset" / "graded.parquet").read_bytes() == before


def test_wrong_options_are_one_line_each(tmp_path) -> None:
    runner = CliRunner()
    config = tmp_path / "c.yaml"
    config.write_text("seed: 1\n", encoding="utf-8")

    for arguments, error, words in (
        (["audit", str(config), "--format", "tevatron"], ConfigError, "--format goes with a training file"),
        (["audit", "x.jsonl", "--format", "tevatorn"], ConfigError, "did you mean 'tevatron'"),
        (["dataset", "export", str(tmp_path), "--to", "x.jsonl"], SourceError, "no graded rows there"),
        (["dataset", "convert", "x.jsonl", "--to", "y.jsonl", "--format", "auto"], ConfigError, "name the form"),
    ):
        done = runner.invoke(app, arguments)
        assert isinstance(done.exception, error)
        assert words in str(done.exception)
