"""The dialogue of `multigrain label`: one document and one answer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from multigrain.display.text import one_line
from multigrain.evaluation.comparison import plain_conclusion
from multigrain.evaluation.labelling.labels import GRADES, Candidate, LabelScore, LabelSession, PooledQuery
from multigrain.evaluation.messages import describe_conclusion
from multigrain.evaluation.settings import CompareSettings

_EXCERPT: Final = 700
_QUESTION: Final = "Does it answer? [y]es [p]artly [n]o  [m]ore [s]kip query [u]ndo [q]uit"


def judge(session: LabelSession, places: Mapping[str, int]) -> None:
    """Ask until all is judged, or the judge has had enough. Everything asked goes to stderr.

    Args:
        session: what is left to judge; keeps the answers.
        places: query id to its place among all, from 1.
    """
    shown: str | None = None
    while (following := session.next()) is not None:
        query, candidate = following
        if query.query_id != shown:
            shown = query.query_id
            _say(f"\nQuery {places[query.query_id]} of {len(places)}: {one_line(query.query)}")
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


def report_lines(score: LabelScore, session: LabelSession, settings: CompareSettings) -> Iterator[str]:
    """The judgments' results in sentences."""
    yield (
        f"{score.judged} queries judged, {score.skipped} skipped, {score.unanswered} that nothing found answers; "
        f"{session.remaining} of {session.total} documents left to judge."
    )
    if not score.conclusions:
        yield "Not enough queries to tell: at least two must be judged and answered by something."
    for conclusion in score.conclusions:
        yield describe_conclusion(conclusion, settings)


def summary(score: LabelScore, session: LabelSession) -> dict[str, Any]:
    """The judgments' results as plain values."""
    return {
        "judged": score.judged,
        "skipped": score.skipped,
        "unanswered": score.unanswered,
        "remaining": session.remaining,
        "comparisons": [plain_conclusion(conclusion) for conclusion in score.conclusions],
    }


def _say(line: str) -> None:
    typer.echo(line, err=True)
