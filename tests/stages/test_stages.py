"""What each stage makes is summed up by the folders of the run directory."""

from __future__ import annotations

from pathlib import Path

from multigrain.config.file import parse_config
from multigrain.stages.run import stage_summaries
from multigrain.stages.table import STAGES
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
