"""What a run may claim, in sentences: a gain only where its interval excludes zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from multigrain.report import figures
from multigrain.report.data import Evaluation, EvaluationSet, QueryChanges, Verdict

__all__ = ["SetVerdict", "Statement", "headline", "judge_forgetting"]

_FEW_QUERIES: Final = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """The first thing on the page.

    Attributes:
        verdict: what it amounts to.
        badge: the verdict in two or three words.
        title: one sentence with the two figures.
        details: sentences that say on what, how sure, and what else to know.
    """

    verdict: Verdict
    badge: str
    title: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetVerdict:
    """One set's outcome for the chosen model: the figure in points and what it amounts to."""

    name: str
    verdict: Verdict
    figure: str
    words: str


def headline(evaluation: Evaluation, changes: tuple[QueryChanges, ...] = ()) -> Statement:
    """The statement on the first test set.

    Args:
        evaluation: all figures.
        changes: outcomes by query; give the share of queries whose right document comes first.
    """
    tested = evaluation.headline_set
    if evaluation.chosen == "base":
        title = "No tuned model did better on validation: the base model stays"
        return Statement("unclear", "base model kept", title, ())
    if tested is None:
        return _untested(evaluation)
    base, chosen = tested.score("base"), tested.score(evaluation.chosen)
    if base is None or chosen is None or chosen.delta is None:
        title = f"{evaluation.chosen} was not compared with the base model on {tested.name}"
        return Statement("unclear", "not compared", title, ())
    before, after = figures.score(base.score), figures.score(chosen.score)
    verdict = chosen.delta.verdict
    badge, title = {
        "better": ("measured gain", f"Tuning raised {tested.metric} from {before} to {after}"),
        "unclear": ("no measurable gain", f"No measurable gain: {tested.metric} {before} before, {after} after"),
        "worse": ("worse than before", f"The tuned model is worse: {tested.metric} fell from {before} to {after}"),
    }[verdict]
    details = [
        f"{figures.interval(chosen.delta)} points ({evaluation.confidence:.0%} interval) on "
        f"{figures.count(tested.queries)} held-out queries: {tested.label}."
    ]
    if verdict == "unclear":
        details.append("The interval contains zero: this run cannot tell the difference from chance.")
        if tested.queries < _FEW_QUERIES:
            details.append(
                "So few queries show large differences only; more documents, or labelled queries, tell more."
            )
    details += _first_place(tested, changes)
    if "synthetic" in tested.label.lower():
        details.append("The queries were written by a language model: take this as an estimate, not as a proof.")
    return Statement(verdict, badge, title, tuple(details))


def _untested(evaluation: Evaluation) -> Statement:
    return Statement(
        "unclear",
        "not tested",
        "Tuned, but not tested on held-out queries",
        (f"There is no test set. Validation figures chose {evaluation.chosen}, so they flatter it.",),
    )


def _first_place(tested: EvaluationSet, changes: tuple[QueryChanges, ...]) -> list[str]:
    moved = next((each for each in changes if each.set_name == tested.name), None)
    if moved is None:
        return []
    total = moved.better + moved.same + moved.worse
    before, after = figures.percent(moved.base_first, total), figures.percent(moved.chosen_first, total)
    return [f"The right document comes first for {after} of them; before, for {before}."]


def judge_forgetting(evaluation: Evaluation) -> tuple[SetVerdict, ...]:
    """Whether the chosen model lost more than it may on the unrelated sets."""
    threshold = evaluation.forgetting_threshold
    allowed = f"{100 * threshold:g} point" + ("" if threshold == 0.01 else "s")
    judged = []
    for each in evaluation.with_role("forgetting"):
        base, chosen = each.score("base"), each.score(evaluation.chosen)
        if base is None or chosen is None or chosen is base:
            continue
        change = chosen.score - base.score
        low, high = (change, change) if chosen.delta is None else (chosen.delta.low, chosen.delta.high)
        figure = figures.points(change) if chosen.delta is None else figures.interval(chosen.delta)
        verdict, words = _lost(change, low, high, threshold, allowed)
        judged.append(SetVerdict(each.name, verdict, figure, words))
    return tuple(judged)


def _lost(change: float, low: float, high: float, threshold: float, allowed: str) -> tuple[Verdict, str]:
    if low > 0:
        return "better", "measurably better than before"
    if low >= -threshold:
        return "unclear", f"nothing lost beyond the {allowed} allowed"
    if change < -threshold and high < 0:
        return "worse", f"forgotten: more than the {allowed} allowed is lost"
    return "unclear", f"too few queries to tell whether more than the {allowed} allowed is lost"
