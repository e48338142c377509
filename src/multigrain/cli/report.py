"""`multigrain report`."""

from __future__ import annotations

import typer

from multigrain.cli.options import ConfigArgument, JsonOption, RedoOption, RunOption
from multigrain.cli.stages import run_command

__all__ = ["register", "report"]


def report(
    config: ConfigArgument, run: RunOption = None, as_json: JsonOption = False, redo: RedoOption = False
) -> None:
    """Draw the report: one self-contained page."""
    run_command(config, run, ["report"], as_json=as_json, redo=redo)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(report)
