"""Did tuning cost the model what it knew? The chosen model on unrelated sets, judged against a threshold.

A set is passed only where the whole interval stays above minus the threshold: "no significant loss" on few queries
would pass any model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from multigrain.evaluation.results import BASE, SetResult

__all__ = ["Forgetting", "ForgettingVerdict", "judge_forgetting"]


class ForgettingVerdict(StrEnum):
    """What may be said of an unrelated set."""

    KEPT = "kept"
    FORGOT = "forgot"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One unrelated set's outcome.

    Attributes:
        set: its name.
        model: the model that was judged.
        verdict: what it amounts to.
        change: the model's score minus the base model's, on a scale of 0 to 1.
        sentence: the same for a person.
    """

    set: str
    model: str
    verdict: ForgettingVerdict
    change: float
    sentence: str


def judge_forgetting(sets: Iterable[SetResult], *, model: str, threshold: float, base: str = BASE) -> list[Forgetting]:
    """Judge a model on every forgetting set that it and the base model were scored on.

    Args:
        sets: all sets of an evaluation.
        model: which model.
        threshold: what it may lose, on a scale of 0 to 1.
        base: the model that it was made from.
    """
    return [
        _judge(each, model, base, threshold)
        for each in sets
        if each.role == "forgetting" and model != base and {model, base} <= each.models.keys()
    ]


def _judge(result: SetResult, model: str, base: str, threshold: float) -> Forgetting:
    change = result.models[model].score - result.models[base].score
    found = result.delta.get(model)
    low, high = (change, change) if found is None else (found.low, found.high)
    allowed = f"{100 * threshold:g} point" + ("" if threshold == 0.01 else "s")
    figure = f"{100 * change:+.1f} points of {result.metric}"
    figure += "" if found is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    if low >= -threshold:
        verdict, said = ForgettingVerdict.KEPT, f"{model} keeps what it knew, to within {allowed}"
    elif change < -threshold and high < 0:
        verdict, said = ForgettingVerdict.FORGOT, f"{model} has forgotten more than the {allowed} allowed"
    else:
        verdict, said = ForgettingVerdict.UNCLEAR, f"cannot tell whether {model} lost more than the {allowed} allowed"
    return Forgetting(result.name, model, verdict, change, f"{result.name}: {said}: {figure}")
