"""`multigrain status`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from multigrain.cli.console import print_json
from multigrain.cli.options import JsonOption, is_config, run_of
from multigrain.errors import RunDirectoryError

if TYPE_CHECKING:
    from multigrain.stages.status import RunStatus

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

    own = run if run is not None and is_config(run) and run.is_file() else None
    paths = [run_of(run)] if run is not None else runs_in(Path("runs"))
    runs = [run_status(path, config_file=own) for path in paths]
    if not runs:
        raise RunDirectoryError("no run in runs/ here: name a directory, or start one with `multigrain run CONFIG`")
    verified = [verify_run(shown.path) for shown in runs] if verify else []
    if as_json:
        values = [asdict(shown) for shown in runs]
        for value, checked in zip(values, verified, strict=False):
            value["verified"] = asdict(checked)
        print_json(values[0] if len(values) == 1 else {"runs": values})
        return
    for number, shown in enumerate(runs):
        if number:
            typer.echo()
        _show(shown)
        if verified:
            tables, read = verified[number].tables, verified[number].bytes
            typer.echo(f"verified: {tables:,} tables of {read / 2**20:,.1f} MiB are what was written")


def _show(shown: RunStatus) -> None:
    typer.echo(f"{shown.path}")
    width = max(len(stage.name) for stage in shown.stages)
    for stage in shown.stages:
        took = f"{stage.seconds:,.0f} s" if stage.seconds is not None else _WORDS.get(stage.state, stage.state)
        typer.echo(f"  {_MARKS[stage.state]} {stage.name:{width}}  {took:>9}  {stage.detail}".rstrip())
    if shown.journal:
        values = shown.journal
        cost = "" if not values["cost"] else f", ${values['cost']:.4f}"
        failed = sum(values["failures"].values())
        typer.echo(
            f"  journal: {values['completions']:,} completions, {failed:,} failures, "
            f"{values['completion_tokens']:,} tokens written{cost}"
        )
    if shown.failure is not None:
        failure = shown.failure
        typer.echo(f"  last attempt: {failure.stage} failed ({failure.failed_at}): {failure.message}")
    typer.echo(shown.advice)
