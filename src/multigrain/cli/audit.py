"""`multigrain audit`."""

from __future__ import annotations

import typer

from multigrain.cli.options import ConfigArgument, JsonOption, RedoOption, RunOption
from multigrain.cli.stages import run_command

__all__ = ["audit", "register"]


def audit(
    config: ConfigArgument, run: RunOption = None, as_json: JsonOption = False, redo: RedoOption = False
) -> None:
    """Measure what was written, drop what is unfit with a reason, and fill the four levels.

    Writes dataset/graded.parquet and dataset/rejects.parquet.
    """
    run_command(config, run, ["audit"], as_json=as_json, redo=redo)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(audit)
