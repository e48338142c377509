"""`multigrain diagnose`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import JsonOption, run_of


def diagnose(
    run: Annotated[
        Path, typer.Argument(metavar="RUN | CONFIG", callback=run_of, help="A run directory, or its config.")
    ],
    load_models: Annotated[
        bool,
        typer.Option(
            "--load-models",
            help="Load base and tuned model and compare their vectors, where the run's files do not tell.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Why did tuning not help? Goes through the causes, the most frequent first, with what the run's files show.

    Each is found, ruled out, or cannot be told. No model is loaded, and a run that is not complete will do. Exits with
    0 whatever is found, with 6 where there is no run or a file of it cannot be understood.
    """
    from multigrain.tools.diagnosis import diagnose as causes_of

    moved = None
    if load_models:
        quieten_libraries()
        from multigrain.tools.moved import vectors_moved

        moved = vectors_moved
    diagnosis = causes_of(run, moved=moved)
    findings = diagnosis.findings
    counts = Counter(finding.status for finding in findings)
    if as_json:
        causes = list(map(asdict, findings))
        print_json({"run": str(run), "found": counts["found"], "causes": causes, "choice": diagnosis.choice})
    else:
        for number, finding in enumerate(findings, start=1):
            typer.echo(f"{number}. {finding.question} {finding.status.capitalize()}.")
            typer.echo(f"   {finding.evidence}")
            if finding.command:
                typer.echo(f"   → {finding.advice}: `{finding.command}`")
        typer.echo(
            f"{counts['found']} found, {counts['ruled out']} ruled out, {counts['cannot tell']} cannot be told from "
            "this run"
        )
        if diagnosis.choice:
            typer.echo(f"choice: {diagnosis.choice}")
