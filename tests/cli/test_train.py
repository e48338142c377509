"""`multigrain train --dry-run`, and what is said of checkpoints that nothing goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import load_config
from multigrain.display.progress import SilentProgress
from multigrain.errors import StageOrderError
from multigrain.stages import run_stages


class _Heard(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def config(tmp_path: Path, corpus_file: Path, small_bert: Path) -> Path:
    values = {
        "documents": {"path": str(corpus_file), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "scripted"},
        "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0},
        "training": {
            "base_model": str(small_bert),
            "steps": 500,
            "batch_size": 4,
            "max_seq_length": 32,
            "precision": "float32",
            "candidates": {
                "mean": {},
                "lora": {"lora": {"r": 2}},
                "queries": {"side": "query"},
                "adapter": {"side": "query", "query_adapter": {}},
            },
        },
    }
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_dry_run_measures_every_candidate_and_keeps_nothing(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", str(config), "--run", str(run), "--dry-run", "--json"]
    with pytest.raises(StageOrderError, match="is not complete; `multigrain"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    run_stages(load_config(config), run, ["documents", "synthesis", "audit"])
    before = {path for path in run.rglob("*") if path.is_file()}

    done = CliRunner().invoke(app, command, catch_exceptions=False)

    found = {each["candidate"]: each for each in json.loads(done.stdout.splitlines()[-1])["candidates"]}
    assert set(found) == {"mean", "lora", "queries", "adapter"}
    assert found["mean"]["tuned_weights"] == found["mean"]["weights"]
    assert found["lora"]["tuned_weights"] < found["mean"]["tuned_weights"]
    assert found["queries"]["tuned_weights"] == found["mean"]["weights"]
    assert found["queries"]["weights"] == 2 * found["mean"]["weights"], "the base is in its folder for documents"
    assert found["adapter"]["weights"] == found["mean"]["weights"]
    for each in found.values():
        assert each["steps"] == 500
        assert each["seconds"] > 10 * each["seconds_a_step"] > 0
    assert {path for path in run.rglob("*") if path.is_file()} == before


def test_checkpoints_of_other_settings_are_named_and_go_with_redo(config: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(config.read_text())
    values["training"] |= {"steps": 2, "candidates": {"mean": {}}}
    config.write_text(yaml.safe_dump(values))
    run, heard = tmp_path / "run", _Heard()
    left = run / "checkpoints" / "mean-of-before" / "checkpoint-1"
    left.mkdir(parents=True)
    (left / "weights").write_bytes(b"x" * 2_000_000)

    run_stages(load_config(config), run, ["documents", "synthesis", "audit", "training"], progress=heard)
    assert any("checkpoints of other settings are kept" in line and "2 MB" in line for line in heard.lines)
    assert left.exists()

    run_stages(load_config(config), run, ["training"], progress=heard, redo=True)
    assert any("removed: mean-of-before" in line for line in heard.lines)
    assert not left.exists()
