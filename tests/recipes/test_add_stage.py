"""A throw-away stage, added as CONTRIBUTING.md says: it is then wherever stages are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Checkout

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
ROW = """_WORDS: Final = Stage(
    name="words",
    command="count",
    module="multigrain.stages.words",
    folder="words",
    fingerprint=dataset_fingerprint,
    requires=(_AUDIT,),
    shown=("words",),
)

"""
COMMAND = '''
"""`multigrain count`."""
from __future__ import annotations
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
'''


@pytest.mark.slow
def test_a_stage_is_added_in_three_files(checkout: Checkout, corpus_file: Path, small_bert: Path) -> None:
    checkout.write("stages/words.py", MODULE)
    checkout.insert("stages/table.py", "STAGES: Final", ROW)
    checkout.insert("stages/table.py", "_TRAINING, _EVALUATION, _REPORT)", "_WORDS, ")
    checkout.write("cli/count.py", COMMAND)
    assert len(checkout.touched) == 3
    assert checkout.follows("stage")

    run = checkout.folder / "runs" / "config"
    checkout.configure(corpus_file, small_bert)
    assert "count" in checkout.multigrain("--help")
    assert "`multigrain synthesize` completes it first" in checkout.multigrain("count", "config.yaml", fails=True)
    summary = json.loads(checkout.multigrain("run", "config.yaml", "--json"))
    words = int((run / "words" / "words.txt").read_text())
    assert summary["words"]["words"] == words > 0
    manifest = (run / "words" / "manifest.json").read_text()

    stages = json.loads(checkout.multigrain("status", str(run), "--json"))["stages"]
    names = [stage["name"] for stage in stages]
    assert names == ["documents", "synthesis", "dataset", "words", "models/tuned", "results"]
    assert (stages[3]["state"], stages[3]["detail"]) == ("complete", f"words {words}")
    page = (run / "report.html").read_text()
    times = page[page.index('id="reproduce"') :]
    positions = [times.index(f">{name.replace('models/', 'training ')}<") for name in names]
    assert positions == sorted(positions), "the report tells what each took, in the order in which they ran"

    checkout.multigrain("count", "config.yaml")
    assert (run / "words" / "manifest.json").read_text() == manifest, "what is complete is kept"
    checkout.configure(corpus_file, small_bert, audit={"min_level_gap": 0.01})
    assert "`multigrain run config.yaml --redo` runs it" in checkout.multigrain("count", "config.yaml", fails=True)
