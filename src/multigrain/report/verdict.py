"""What a run may claim, in sentences: a gain only where its interval excludes zero."""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.report import figures
from multigrain.report.data import Evaluation, EvaluationSet, QueryChanges, Verdict

__all__ = ["SetVerdict", "Statement", "headline", "judge_forgetting"]


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
    before, after = figures.score(base.ndcg_at_10), figures.score(chosen.ndcg_at_10)
    verdict = chosen.delta.verdict
    badge, title = {
        "better": ("measured gain", f"Tuning raised nDCG@10 from {before} to {after}"),
        "unclear": ("no measurable gain", f"No measurable gain: nDCG@10 {before} before, {after} after"),
        "worse": ("worse than before", f"The tuned model is worse: nDCG@10 fell from {before} to {after}"),
    }[verdict]
    details = [
        f"{figures.interval(chosen.delta)} points ({evaluation.confidence:.0%} interval) on "
        f"{figures.count(tested.queries)} held-out queries: {tested.label}."
    ]
    if verdict == "unclear":
        details.append("The interval contains zero: this run cannot tell the difference from chance.")
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
    """Whether the chosen model lost anything on the unrelated sets."""
    words: dict[Verdict, str] = {
        "better": "measurably better than before",
        "unclear": "no measurable change",
        "worse": "measurably worse than before",
    }
    judged = []
    for each in evaluation.with_role("forgetting"):
        chosen = each.score(evaluation.chosen)
        if chosen is not None and chosen.delta is not None:
            verdict = chosen.delta.verdict
            judged.append(SetVerdict(each.name, verdict, figures.interval(chosen.delta), words[verdict]))
    return tuple(judged)
