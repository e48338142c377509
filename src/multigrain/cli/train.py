"""`multigrain train`."""

from __future__ import annotations

import typer

from multigrain.cli.options import ConfigArgument, JsonOption, RedoOption, RunOption
from multigrain.cli.stages import run_command

__all__ = ["register", "train"]


def train(
    config: ConfigArgument, run: RunOption = None, as_json: JsonOption = False, redo: RedoOption = False
) -> None:
    """Train the config's candidates on the graded rows, from easy to hard.

    Interrupted training resumes from its last checkpoint with the very batches that remain.
    """
    run_command(config, run, ["training"], as_json=as_json, redo=redo)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(train)
