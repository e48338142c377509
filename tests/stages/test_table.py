"""The table of stages, and what is read from it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from multigrain.cli.main import app
from multigrain.config.file import parse_config
from multigrain.stages.base import RunContext, Stage
from multigrain.stages.run import stage_summaries
from multigrain.stages.table import STAGES, invalidate, stages_of
from multigrain.storage.rundir import RunDirectory


def test_summaries_are_those_of_the_folders_that_stages_make(tmp_path: Path) -> None:
    held = RunDirectory(tmp_path)
    config = parse_config({"training": {"candidates": {"one": {}, "two": {}}}})
    folders = ["documents", "synthesis", "dataset", "models/one", "models/two", "results"]
    for number, folder in enumerate(folders):
        held.finish(folder, "made", {"rows": number}, 1.0)

    assert stage_summaries(held, config, list(STAGES)) == {
        folder: {"rows": number, "seconds": 1.0} for number, folder in enumerate(folders)
    }
    assert list(stage_summaries(held, config, ["training", "report"])) == ["models/one", "models/two"]
    held.invalidate("models/two")
    assert list(stage_summaries(held, config, ["training"])) == ["models/one"]


def test_stages_come_after_those_that_they_require_and_have_a_command_and_a_module() -> None:
    commands = get_command(app).commands
    seen: list[Stage] = []
    for name, stage in STAGES.items():
        assert stage.name == name
        assert all(earlier in seen for earlier in stage.requires)
        assert bool(stage.folder) == (stage.fingerprint is not None)
        assert stage.command in commands
        assert callable(import_module(stage.module).run)
        seen.append(stage)

    assert stages_of("run") == list(STAGES)
    assert [name for command in dict.fromkeys(stage.command for stage in seen) for name in stages_of(command)] == list(
        STAGES
    ), "each is run by one command"


@pytest.mark.parametrize(
    ("outdated", "kept"), [("documents", 0), ("synthesis", 1), ("audit", 2), ("training", 3), ("evaluation", 5)]
)
def test_a_stage_that_is_forgotten_takes_along_all_that_read_its_output(
    tmp_path: Path, outdated: str, kept: int
) -> None:
    config = parse_config({"training": {"candidates": {"one": {}, "two": {}}}})
    context = RunContext(config, RunDirectory(tmp_path))
    folders = [folder for stage in STAGES.values() for folder in stage.folders(config)]
    for folder in folders:
        context.run.finish(folder, "made", {}, 1.0)

    invalidate(context, STAGES[outdated])

    assert [manifest.stage for manifest in context.run.manifests()] == folders[:kept]
