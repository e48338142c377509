"""How a subcommand runs stages: load the config, show progress, print the summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import run_directory
from multigrain.config import load_config
from multigrain.rundir import RunDirectory

__all__ = ["run_command"]


def run_command(
    config_path: Path, directory: Path | None, stages: Sequence[str], *, as_json: bool, redo: bool
) -> RunDirectory:
    """Run some stages for a subcommand.

    Args:
        config_path: the config file.
        directory: the run directory; None for the default one.
        stages: names of stages, in order.
        as_json: print a summary object.
        redo: run changed stages again.
    """
    config = load_config(config_path)
    quieten_libraries()
    from multigrain.pipeline.run import run_stages, stage_summaries

    held = run_stages(config, run_directory(config_path, directory), stages, progress=terminal_progress(), redo=redo)
    if as_json:
        folders = {
            "documents": ["documents"],
            "synthesis": ["synthesis"],
            "audit": ["dataset"],
            "training": [f"models/{name}" for name in config.training.candidates],
            "evaluation": ["results"],
            "report": [],
        }
        summary: dict[str, Any] = {"run": str(held.path)}
        summary |= stage_summaries(held, [folder for stage in stages for folder in folders[stage]])
        if "report" in stages:
            summary["report"] = str(held.report_path)
        print_json(summary)
    return held
