"""`multigrain synthesize`."""

from __future__ import annotations

import typer

from multigrain.cli.options import ConfigArgument, JsonOption, RedoOption, RunOption
from multigrain.cli.stages import run_command

__all__ = ["register", "synthesize"]


def synthesize(
    config: ConfigArgument, run: RunOption = None, as_json: JsonOption = False, redo: RedoOption = False
) -> None:
    """Read the documents and write queries and graded negatives for them.

    Every completion is on disk before it counts: interrupted anywhere, the same command goes on where it stopped.
    """
    run_command(config, run, ["documents", "synthesis"], as_json=as_json, redo=redo)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(synthesize)
