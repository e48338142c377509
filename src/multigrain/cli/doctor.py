"""`multigrain doctor`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from multigrain.cli.console import console, print_json, quieten_libraries
from multigrain.cli.options import CONFIG_HERE, JsonOption, run_directory
from multigrain.config.file import load_config

_MARKS: Final = {"ok": "✓", "note": "·", "problem": "✗"}


def doctor(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="Look at its documents, models and endpoint too. Default: config.yaml, if here.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at versions, device, memory, disk, documents, models, endpoint and hub, and say what to fix.

    Exits with 1 where a run would fail. Nothing is downloaded, and no model is asked for anything.
    """
    if config is None and CONFIG_HERE.is_file():
        config = CONFIG_HERE
        console().print(f"with {config}", markup=False, highlight=False)
    settings = load_config(config) if config is not None else None
    quieten_libraries()
    from multigrain.tools.doctor import diagnose

    findings = list(diagnose(settings, run_directory(config, None) if config is not None else Path("runs")))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.topic) for finding in findings)
        for finding in findings:
            typer.echo(f"{_MARKS[finding.state]} {finding.topic:{width}}  {finding.found}")
            if finding.advice:
                typer.echo(f"  {'':{width}}  → {finding.advice}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)
