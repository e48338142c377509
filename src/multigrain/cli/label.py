"""`multigrain label`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.model_options import MODELS_HELP, TrustOption
from multigrain.cli.options import JsonOption, require_fitting, run_of
from multigrain.display.text import one_line
from multigrain.storage.rundir import RunDirectory

if TYPE_CHECKING:
    from multigrain.evaluation.labelling.labels import Candidate, LabelSession, PooledQuery
    from multigrain.evaluation.labelling.queries import LabelTask

_EXCERPT: Final = 700
_QUESTION: Final = "Does it answer? [y]es [p]artly [n]o  [m]ore [s]kip query [u]ndo [q]uit"


def label(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN | CONFIG | MODEL MODEL...",
            help="A run directory that has been evaluated, or its config; or, with --documents and --queries, models: "
            f"{MODELS_HELP}",
        ),
    ],
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judge queries of your own, one a line. Default: the run's test queries."),
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Models only: what to search, a folder of texts or a table."),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="How many queries to judge.")] = 50,
    depth: Annotated[int, typer.Option(min=1, max=10, help="How many documents of each model to judge.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Draws the queries and shuffles the documents.")] = 13,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where answers are kept. Default: RUN/labels, or labels.")
    ] = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge what two or more models found, without knowing which found it, and score them on that.

    Answers are kept one by one; the same command continues where you stopped. What is judged becomes a labelled set, a
    folder that `multigrain evaluate MODEL --set` scores other models on.
    """
    if len(targets) == 1:
        require_fitting(
            context,
            ("documents", "trust_remote_code"),
            f"is for models: give at least two; {targets[0]} has documents and training.trust_remote_code of its own",
        )
        directory = RunDirectory(run_of(Path(targets[0])))
        if queries is not None:
            quieten_libraries()
        from multigrain.evaluation.labelling.queries import run_queries

        with directory.hold():
            task = run_queries(directory) if queries is None else _own_queries(directory, queries, depth)
            _label(task, out or directory.path / "labels", limit=limit, depth=depth, seed=seed, as_json=as_json)
        return
    if queries is None or documents is None:
        raise typer.BadParameter("models need something to search: give --documents and --queries")
    quieten_libraries()
    from multigrain.encoders.models import Encoding, parse_model
    from multigrain.evaluation.labelling.queries import model_queries

    folder = out or Path("labels")
    with RunDirectory(folder).hold():
        task = model_queries(
            list(map(parse_model, targets)),
            documents,
            queries,
            depth=depth,
            encoding=Encoding(cache=folder / "embeddings", trust_remote_code=trust_remote_code),
        )
        _label(task, folder, limit=limit, depth=depth, seed=seed, as_json=as_json)


def _own_queries(run: RunDirectory, queries: Path, depth: int) -> LabelTask:
    # Loading torch takes seconds, which judging a run's own queries can do without.
    from multigrain.config.file import load_config
    from multigrain.evaluation.labelling.queries import own_queries
    from multigrain.stages.base import RunContext
    from multigrain.stages.models import open_models

    context = RunContext(load_config(run.path), run, terminal_progress())
    return own_queries(run, queries, partial(open_models, context), depth=depth)


def _label(task: LabelTask, folder: Path, *, limit: int, depth: int, seed: int, as_json: bool) -> None:
    from multigrain.evaluation.labelling.labels import (
        LabelSession,
        label_lines,
        label_values,
        pool,
        score_labels,
        write_judged_set,
    )
    from multigrain.evaluation.settings import CompareSettings

    settings = CompareSettings(seed=seed)
    pooled = pool(task.rankings, task.queries, task.texts, limit=limit, depth=depth, seed=seed)
    session = LabelSession(pooled, folder / f"{task.name}.jsonl")
    _judge(session, {query.query_id: number for number, query in enumerate(pooled, start=1)})
    score = score_labels(
        task.rankings,
        session,
        base=task.base,
        others=task.others,
        set_name=task.name,
        depth=depth,
        settings=settings,
    )
    judged = write_judged_set(folder / task.name, session, task.queries, task.texts)
    if as_json:
        print_json(label_values(score, session) | {"set": str(folder / task.name) if judged else None})
        return
    for line in label_lines(score, session, settings):
        typer.echo(line)
    if judged:
        typer.echo(
            f"{folder / task.name} is a labelled set now: `multigrain evaluate MODEL --set {folder / task.name}`. "
            "What a new model finds and nobody judged counts as not relevant there, and is reported."
        )


def _judge(session: LabelSession, numbers: Mapping[str, int]) -> None:
    """Ask, on stderr, until all is judged or the judge has had enough. The session keeps the answers."""
    shown: str | None = None
    while (following := session.next()) is not None:
        query, candidate = following
        if query.query_id != shown:
            shown = query.query_id
            _say(f"\nQuery {numbers[query.query_id]} of {len(numbers)}: {one_line(query.query)}")
        _say(f"\n  {one_line(candidate.text, _EXCERPT)}")
        try:
            answer = _ask(session, query, candidate)
        except typer.Abort:  # Ctrl-C, Ctrl-D or the end of piped answers
            answer = "q"
        if answer == "q":
            _say("")
            return
        if answer in ("u", "s"):
            shown = None


def _ask(session: LabelSession, query: PooledQuery, candidate: Candidate) -> str:
    from multigrain.evaluation.labelling.labels import GRADES

    while True:
        answer: str = typer.prompt(f"{_QUESTION} ({session.remaining} left)", err=True).strip().lower()[:1]
        if answer in GRADES:
            session.judge(query, candidate, GRADES[answer])
        elif answer == "s":
            session.skip(query)
        elif answer == "u" and not session.undo():
            _say("Nothing to take back.")
            continue
        elif answer == "m":
            _say(f"\n  {one_line(candidate.text)}")
            continue
        elif answer not in ("u", "q"):
            continue
        return answer


def _say(line: str) -> None:
    typer.echo(line, err=True)
