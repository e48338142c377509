"""`multigrain ablate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import JsonOption


def ablate(
    matrix: Annotated[
        Path,
        typer.Argument(
            metavar="MATRIX", help="A YAML file: config, vary, seeds, reference, skip, budget_seconds, budget_cost."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Where to keep it. Default: runs/<name of the file>."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, with about how long it takes and costs; do nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a matrix of settings and put what each bought in one table.

    Arms share documents, written rows and embeddings; each is trained once with each seed. The same command continues
    where it was interrupted. The table is written as ablation.md, .csv, .tex and .html.
    """
    from multigrain.ablation.matrix import load_matrix

    settings = load_matrix(matrix)
    quieten_libraries()
    if dry_run:
        from multigrain.ablation.plan import plan_ablation, plan_lines

        plan = plan_ablation(settings, out or Path("runs") / matrix.stem)
        if as_json:
            print_json(asdict(plan))
        else:
            typer.echo("\n".join(plan_lines(plan)))
        return
    from multigrain.ablation.render import plain_table, to_markdown
    from multigrain.ablation.run import run_ablation

    table = run_ablation(settings, out or Path("runs") / matrix.stem, progress=terminal_progress())
    if as_json:
        print_json(plain_table(table))
    else:
        typer.echo(to_markdown(table), nl=False)
