"""`multigrain label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import JsonOption
from multigrain.rundir import RunDirectory

__all__ = ["label", "register"]


def label(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that has been evaluated.")],
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judge queries of your own, one a line. Default: the run's test queries."),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="How many queries to judge.")] = 50,
    depth: Annotated[int, typer.Option(min=1, max=10, help="How many documents of each model to judge.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Draws the queries and shuffles the documents.")] = 13,
    as_json: JsonOption = False,
) -> None:
    """Judge what the base and the tuned model found, without knowing which found it, and score both on that.

    Answers are kept one by one in RUN/labels; the same command goes on where you stopped.
    """
    if queries is not None:
        quieten_libraries()
    from multigrain.cli.judge import judge, report_lines, summary
    from multigrain.evaluation.compare import CompareSettings
    from multigrain.evaluation.label_sources import own_queries, run_queries
    from multigrain.evaluation.labelling import LabelSession, pool, score_labels

    directory = RunDirectory(run)
    settings = CompareSettings(seed=seed)
    with directory.hold():
        task = run_queries(directory) if queries is None else own_queries(directory, queries, depth=depth)
        pooled = pool(task.rankings, task.queries, task.texts, limit=limit, depth=depth, seed=seed)
        session = LabelSession(pooled, directory.path / "labels" / f"{task.name}.jsonl")
        judge(session, {each.query_id: place for place, each in enumerate(pooled, start=1)})
        score = score_labels(
            task.rankings,
            session,
            base=task.base,
            model=task.model,
            set_name=task.name,
            depth=depth,
            settings=settings,
        )
    if as_json:
        print_json(summary(score, session))
        return
    for line in report_lines(score, session, settings):
        typer.echo(line)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(label)
