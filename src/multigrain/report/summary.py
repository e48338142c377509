"""The table on the page that is printed first: a line a set, so few that one sheet of paper holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multigrain.display import numbers
from multigrain.display.text import one_line
from multigrain.evaluation.results import EvaluationResults, SetResult
from multigrain.evaluation.verdict import Conclusion, conclusion_on

MOST_SETS: Final = 10
"""Lines of the table; the sections below have the others."""
_LONGEST: Final = 40  # characters of a name


@dataclass(frozen=True, slots=True)
class SetLine:
    """One set: the base model, the chosen one, the difference and what may be said of it."""

    name: str
    role: str
    queries: int
    metric: str
    base: float | None
    chosen: float | None
    difference: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The lines, and how many sets have none."""

    lines: tuple[SetLine, ...]
    left_out: int


def summarise_sets(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> Summary:
    """The sets of a run as they are printed first: tests, then what must not get worse, then validation.

    Args:
        results: of the run.
        conclusions: of these results.
    """
    lines = []
    for result in results.shown[:MOST_SETS]:
        difference = result.delta.get(results.chosen)
        conclusion = conclusion_on(conclusions, result.name, results.chosen)
        base, chosen = result.models.get(results.base), result.models.get(results.chosen)
        lines.append(
            SetLine(
                name=one_line(result.name, _LONGEST),
                role=result.role or "",
                queries=result.queries,
                metric=result.metric,
                base=None if base is None else base.score,
                chosen=None if chosen is None else chosen.score,
                difference="" if difference is None else numbers.interval(difference),
                verdict=_verdict(results, result, conclusion),
            )
        )
    return Summary(tuple(lines), max(0, len(results.shown) - MOST_SETS))


def _verdict(results: EvaluationResults, result: SetResult, conclusion: Conclusion | None) -> str:
    if conclusion is not None:
        return conclusion.verdict.value
    return "chose the model" if results.selected_on(result) else ""
