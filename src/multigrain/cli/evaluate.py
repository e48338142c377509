"""`multigrain evaluate`."""

from __future__ import annotations

import typer

from multigrain.cli.options import ConfigArgument, JsonOption, RedoOption, RunOption
from multigrain.cli.stages import run_command

__all__ = ["evaluate", "register"]


def evaluate(
    config: ConfigArgument, run: RunOption = None, as_json: JsonOption = False, redo: RedoOption = False
) -> None:
    """Compare the base model with every candidate on held-out queries, with confidence intervals.

    Validation queries choose the model; test queries give the figures.
    """
    run_command(config, run, ["evaluation"], as_json=as_json, redo=redo)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(evaluate)
