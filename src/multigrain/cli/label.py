"""`multigrain label`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import JsonOption
from multigrain.rundir import RunDirectory

if TYPE_CHECKING:
    from multigrain.evaluation.labelling import Candidate, LabelScore, LabelSession, PooledQuery

__all__ = ["label", "register"]

_EXCERPT = 700
_QUESTION = "Does it answer? [y]es [p]artly [n]o  [m]ore [s]kip query [u]ndo [q]uit"


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
    quieten_libraries()
    from multigrain.evaluation.compare import CompareSettings
    from multigrain.evaluation.label_sources import own_queries, run_queries
    from multigrain.evaluation.labelling import LabelSession, pool, score_labels

    directory = RunDirectory(run)
    settings = CompareSettings(seed=seed)
    with directory.hold():
        task = run_queries(directory) if queries is None else own_queries(directory, queries, depth=depth)
        pooled = pool(task.rankings, task.queries, task.texts, limit=limit, depth=depth, seed=seed)
        session = LabelSession(pooled, directory.path / "labels" / f"{task.name}.jsonl")
        _judge(session, {each.query_id: place for place, each in enumerate(pooled, start=1)})
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
        print_json(_summary(score, session))
        return
    for line in _lines(score, session, settings):
        typer.echo(line)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(label)


def _judge(session: LabelSession, places: Mapping[str, int]) -> None:
    """Ask until all is judged, or the judge has had enough. Everything asked goes to stderr."""
    shown: str | None = None
    while (following := session.next()) is not None:
        query, candidate = following
        if query.query_id != shown:
            shown = query.query_id
            _say(f"\nQuery {places[query.query_id]} of {len(places)}: {printable(query.query)}")
        _say(f"\n  {printable(candidate.text, _EXCERPT)}")
        try:
            answer = _ask(session, query, candidate)
        except click.Abort:  # Ctrl-C, Ctrl-D or the end of piped answers
            answer = "q"
        if answer == "q":
            _say("")
            return
        if answer in ("u", "s"):
            shown = None


def _ask(session: LabelSession, query: PooledQuery, candidate: Candidate) -> str:
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
            _say(f"\n  {printable(candidate.text)}")
            continue
        elif answer not in ("u", "q"):
            continue
        return answer


def _lines(score: LabelScore, session: LabelSession, settings: CompareSettings) -> Iterator[str]:
    yield (
        f"{score.judged} queries judged, {score.skipped} skipped, {score.unanswered} that nothing found answers; "
        f"{session.remaining} of {session.total} documents left to judge."
    )
    if score.conclusion is None:
        yield "Not enough queries to tell: at least two must be judged and answered by something."
    else:
        yield describe_conclusion(score.conclusion, compared=1, settings=settings)


def _summary(score: LabelScore, session: LabelSession) -> dict[str, Any]:
    return {
        "judged": score.judged,
        "skipped": score.skipped,
        "unanswered": score.unanswered,
        "remaining": session.remaining,
        "comparison": plain(score.conclusion) if score.conclusion is not None else None,
    }


def _say(line: str) -> None:
    typer.echo(line, err=True)
