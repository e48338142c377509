"""`multigrain status`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from multigrain.cli.console import print_json
from multigrain.cli.options import JsonOption

__all__ = ["register", "status"]

_MARKS: Final = {"complete": "✓", "begun": "…", "open": "·"}


def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    as_json: JsonOption = False,
) -> None:
    """Show where a run stands: stages, completions, cost so far, and what to do next.

    Reads only, so it is safe while the run is at work.
    """
    from multigrain.pipeline.status import run_status

    found = run_status(run)
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(f"{found.path}")
    width = max(len(stage.name) for stage in found.stages)
    for stage in found.stages:
        took = f"{stage.seconds:,.0f} s" if stage.seconds is not None else stage.state
        typer.echo(f"  {_MARKS[stage.state]} {stage.name:{width}}  {took:>9}  {stage.detail}".rstrip())
    if found.journal:
        values = found.journal
        cost = "" if values["cost"] is None else f", ${values['cost']:.4f}"
        failed = sum(values["failures"].values())
        typer.echo(
            f"  journal: {values['completions']:,} completions, {failed:,} failures, "
            f"{values['completion_tokens']:,} tokens written{cost}"
        )
    typer.echo(found.advice)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(status)
