"""A stage is added in three files, and is then wherever stages are: shown on a copy of the package with one more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import multigrain

# As CONTRIBUTING's recipe says: the stage's own module, its row in the table, its file of the command line.
MODULE = '''
"""Counts the words of the graded rows."""
from __future__ import annotations
from typing import Any
from multigrain.dataset.store import open_examples
from multigrain.stages.base import Stage
from multigrain.stages.base import RunContext
from multigrain.storage.files import atomic_write

def run(context: RunContext, stage: Stage) -> None:
    """Count, unless it is done."""
    stage.complete(context, lambda: _count(context, stage))

def _count(context: RunContext, stage: Stage) -> dict[str, Any]:
    words = sum(len(example.positive.split()) for example in open_examples(context.run.dataset_path))
    atomic_write(context.run.path / stage.folder / "words.txt", str(words))
    return {"words": words}
'''
ROW = """
_WORDS: Final = Stage(
    name="words",
    command="count",
    module="multigrain.stages.words",
    folder="words",
    fingerprint=dataset_fingerprint,
    requires=(_AUDIT,),
    shown=("words",),
)

STAGES: Final"""
COMMAND = '''
"""`multigrain count`."""
from __future__ import annotations
import typer
from multigrain.cli.options import CONFIG_HERE, ConfigHereArgument, JsonOption, RedoOption, RunOption
from multigrain.cli.stages import run_command

def count(
    config: ConfigHereArgument = CONFIG_HERE,
    run: RunOption = None,
    as_json: JsonOption = False,
    redo: RedoOption = False,
) -> None:
    """Count the words of the graded rows."""
    run_command(config, run, "count", as_json=as_json, redo=redo)

def register(app: typer.Typer) -> None:
    app.command()(count)
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with a stage more; the folder to import it from."""
    copy = tmp_path / "package" / "multigrain"
    shutil.copytree(Path(multigrain.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "stages" / "words.py").write_text(MODULE)
    (copy / "cli" / "count.py").write_text(COMMAND)
    table = copy / "stages" / "table.py"
    text = table.read_text()
    assert text.count("\nSTAGES: Final") == text.count("_AUDIT, ") == 1
    table.write_text(text.replace("\nSTAGES: Final", ROW).replace("_AUDIT, ", "_AUDIT, _WORDS, "))
    return copy.parent


@pytest.mark.slow
def test_a_stage_more_is_run_skipped_shown_reported_and_offered(
    tmp_path: Path, package: Path, corpus_file: Path, small_bert: Path
) -> None:
    def command(*arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "multigrain", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(package), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    values = {
        "documents": {"path": str(corpus_file)},
        "llm": {"provider": "scripted"},
        "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0},
        "training": {
            "base_model": str(small_bert),
            "steps": 2,
            "batch_size": 4,
            "max_seq_length": 32,
            "precision": "float32",
            "candidates": {"mean": {}},
        },
        "evaluation": {"queries": "titles", "bootstrap_samples": 200},
    }
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(values))

    assert "count" in command("--help")
    assert "`multigrain audit` completes it first" in command("count", str(config), "--run", str(run), fails=True)
    summary = json.loads(command("run", str(config), "--run", str(run), "--json"))
    words = int((run / "words" / "words.txt").read_text())
    assert summary["words"]["words"] == words > 0
    manifest = (run / "words" / "manifest.json").read_text()

    stages = json.loads(command("status", str(run), "--json"))["stages"]
    names = [stage["name"] for stage in stages]
    assert names == ["documents", "synthesis", "dataset", "words", "models/mean", "results"]
    assert (stages[3]["state"], stages[3]["detail"]) == ("complete", f"words {words}")
    page = (run / "report.html").read_text()
    times = page[page.index('id="reproduce"') :]
    places = [times.index(f">{name.replace('models/', 'training ')}<") for name in names]
    assert places == sorted(places), "the report tells what each took, in the order in which they ran"

    command("count", str(config), "--run", str(run))
    assert (run / "words" / "manifest.json").read_text() == manifest, "what is complete is kept"
    values["audit"]["min_level_gap"] = 0.01
    config.write_text(yaml.safe_dump(values))
    assert "run `multigrain audit --redo` first" in command("count", str(config), "--run", str(run), fails=True)
