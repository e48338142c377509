"""`multigrain report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import console, terminal_progress
from multigrain.cli.options import CONFIG_HERE, JsonOption, RedoOption, RunOption, run_directory
from multigrain.cli.stages import run_command
from multigrain.errors import RunDirectoryError
from multigrain.storage.rundir import RunDirectory


def report(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN | CONFIG]",
            help="A run directory, or its config. Default: the one run in runs/, where it is one.",
        ),
    ] = None,
    run: RunOption = None,
    share: Annotated[
        bool,
        typer.Option(
            "--share",
            help="Also write report-share.html: the figures without queries, documents, negatives and file paths.",
        ),
    ] = False,
    as_json: JsonOption = False,
    redo: RedoOption = False,
) -> None:
    """Draw the report: one self-contained page."""
    run_command(
        config or _the_run_here(), run, "report", as_json=as_json, redo=redo, then=_write_copy if share else None
    )


def _write_copy(run: RunDirectory) -> dict[str, str]:
    from multigrain.report.render import write_shared_report

    path = write_shared_report(run)
    terminal_progress().say(f"copy without texts: {path}")
    return {"shared_report": str(path)}


def _the_run_here() -> Path:
    """The only run in runs/, or the run of the config that lies here; it is said which."""
    from multigrain.stages.status import runs_in

    runs = runs_in(Path("runs"))
    own = run_directory(CONFIG_HERE, None)
    chosen = runs[0] if len(runs) == 1 else own if own in runs else None
    if chosen is None:
        there = f"there are {', '.join(map(str, runs))}" if runs else "no run is in runs/ here"
        raise RunDirectoryError(f"no run was named, and {there}: give one, as in `multigrain report runs/NAME`")
    console().print(f"the run in {chosen}", markup=False, highlight=False, soft_wrap=True)
    return chosen
