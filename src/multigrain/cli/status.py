"""`multigrain status`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from multigrain.cli.console import print_json
from multigrain.cli.options import JsonOption, run_of
from multigrain.errors import RunDirectoryError

if TYPE_CHECKING:
    from multigrain.stages.status import RunStatus

__all__ = ["register", "status"]

_MARKS: Final = {"complete": "✓", "begun": "…", "open": "·"}
_WORDS: Final = {"open": "not begun"}


def status(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN | CONFIG]", help="A run directory, or its config. Default: every run in runs/."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every table and compare it with its checksums, as after a copy.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where a run stands: stages, completions, cost so far, and what to do next.

    Reads only, so it is safe while the run is at work.
    """
    from multigrain.stages.status import run_status, runs_in, verify_run

    found = [run_status(each) for each in ([run_of(run)] if run is not None else runs_in(Path("runs")))]
    if not found:
        raise RunDirectoryError("no run in runs/ here: name a directory, or start one with `multigrain run CONFIG`")
    verified = [verify_run(each.path) for each in found] if verify else []
    if as_json:
        values = [asdict(each) for each in found]
        for shown, checked in zip(values, verified, strict=False):
            shown["verified"] = asdict(checked)
        print_json(values[0] if len(values) == 1 else {"runs": values})
        return
    for number, each in enumerate(found):
        if number:
            typer.echo()
        _show(each)
        if verified:
            tables, read = verified[number].tables, verified[number].bytes
            typer.echo(f"verified: {tables:,} tables of {read / 2**20:,.1f} MiB are what was written")


def _show(found: RunStatus) -> None:
    typer.echo(f"{found.path}")
    width = max(len(stage.name) for stage in found.stages)
    for stage in found.stages:
        took = f"{stage.seconds:,.0f} s" if stage.seconds is not None else _WORDS.get(stage.state, stage.state)
        typer.echo(f"  {_MARKS[stage.state]} {stage.name:{width}}  {took:>9}  {stage.detail}".rstrip())
    if found.journal:
        values = found.journal
        cost = "" if not values["cost"] else f", ${values['cost']:.4f}"
        failed = sum(values["failures"].values())
        typer.echo(
            f"  journal: {values['completions']:,} completions, {failed:,} failures, "
            f"{values['completion_tokens']:,} tokens written{cost}"
        )
    if found.failure is not None:
        typer.echo(
            f"  last attempt: {found.failure.stage} failed ({found.failure.failed_at}): {found.failure.message}"
        )
    typer.echo(found.advice)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(status)
