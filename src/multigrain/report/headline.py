"""What a run may claim, in the sentences that stand first on its page and its card; `evaluation.verdict` decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from multigrain.display import numbers as figures
from multigrain.evaluation.choice import Chosen, advise, choose_model
from multigrain.evaluation.enough import rough
from multigrain.evaluation.query_changes import QueryChanges
from multigrain.evaluation.results import NDCG, EvaluationResults
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE
from multigrain.evaluation.verdict import (
    Conclusion,
    Verdict,
    conclusion_on,
    conclusions_of,
    left_to_gain,
    lesser_claims,
    queries_to_tell,
)

Tone = Literal["better", "unclear", "doubtful", "worse"]
"""How a verdict is coloured; doubtful where nothing is shown and everything points down."""

_FEW_QUERIES: Final = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """The first thing on the page.

    Attributes:
        verdict: on the first test set; None where there is none.
        tone: the verdict's colour.
        badge: the verdict in a few words.
        title: one sentence with the two figures.
        details: sentences that say on what, how sure, and what else to know.
        advice: what `model/` holds, and what to do with it.
        choice: the verdict over base, tuned model and rivals; None where there is no test set, or no rival.
    """

    verdict: Verdict | None
    tone: Tone
    badge: str
    title: str
    details: tuple[str, ...]
    advice: str
    choice: Chosen | None = None


def tone_of(conclusion: Conclusion | None) -> Tone:
    """The colour of a conclusion; of none, as on validation sets, that of no claim."""
    if conclusion is None:
        return "unclear"
    if conclusion.is_claimed:
        return "better" if conclusion.verdict is Verdict.BETTER else "worse"
    return "doubtful" if conclusion.looks_worse else "unclear"


def headline(
    results: EvaluationResults,
    changes: Sequence[QueryChanges] = (),
    conclusions: Sequence[Conclusion] | None = None,
) -> Statement:
    """The statement on the first test set.

    Args:
        results: all figures.
        changes: outcomes by query; give the share of queries whose right document comes first.
        conclusions: of these results, where they are at hand.
    """
    conclusions = conclusions_of(results) if conclusions is None else conclusions
    choice = choose_model(results, conclusions) if results.rivals else None
    if results.chosen == results.base:
        title = "No tuned model did better on validation: the base model stays"
        kept = "model/ holds the base model, unchanged."
        return Statement(None, "unclear", "base model kept", title, (), kept, choice)
    _, words = advise(results, conclusions)
    advice = f"model/ holds {results.chosen}{words}."
    tested = results.headline_set
    if tested is None:
        flattered = f"There is no test set. Validation figures chose {results.chosen}, so they flatter it."
        title = "Tuned, but not tested on held-out queries"
        return Statement(None, "unclear", "not tested", title, (flattered,), advice)
    conclusion = conclusion_on(conclusions, tested.name, results.chosen)
    if conclusion is None:
        title = f"{results.chosen} was not compared with the base model on {tested.name}"
        return Statement(None, "unclear", "not compared", title, (), advice, choice)
    badge, title = _badge_and_title(conclusion)
    others = map(_elsewhere, lesser_claims(results, conclusions))
    details = (*_how_sure(conclusion, results.confidence), *others, *_what_else(conclusion, changes))
    return Statement(conclusion.verdict, tone_of(conclusion), badge, title, details, advice, choice)


def _badge_and_title(conclusion: Conclusion) -> tuple[str, str]:
    metric = conclusion.result.metric
    before, after = figures.score(conclusion.base_score), figures.score(conclusion.score)
    if conclusion.looks_worse:
        return (
            "no gain shown; looks worse, too few queries to be sure",
            f"No gain shown: {metric} {before} before, {after} after",
        )
    if conclusion.looks_better:
        return "perhaps better, not shown", f"Perhaps better, not shown: {metric} {before} before, {after} after"
    return {
        Verdict.BETTER: ("measured gain", f"Tuning raised {metric} from {before} to {after}"),
        Verdict.WORSE: ("worse than before", f"The tuned model is worse: {metric} fell from {before} to {after}"),
        Verdict.EQUAL: (
            "no difference that matters",
            f"No difference that matters: {metric} {before} before, {after} after",
        ),
        Verdict.UNDECIDED: ("no gain shown", f"No gain shown: {metric} {before} before, {after} after"),
    }[conclusion.verdict]


def _how_sure(conclusion: Conclusion, confidence: float) -> list[str]:
    result, difference = conclusion.result, conclusion.difference
    of_clusters = f" {result.cluster_words}" if result.cluster_words else ""
    on = f"{figures.count(result.queries)} held-out {result.unit}{of_clusters}: " if result.queries else ""
    level = ", ".join(filter(None, (f"{confidence:.0%} interval", result.few_words(difference))))
    details = [f"{figures.interval(difference)} points ({level}) on {on}{result.provenance}."]
    if conclusion.is_claimed:
        return details
    if conclusion.verdict is Verdict.EQUAL:
        details.append("The whole interval lies within 1 point of zero: nothing that matters was gained or lost.")
    elif conclusion.is_undone_by_correction:
        details.append(
            f"The interval stays clear of zero, but it is one of {figures.count(conclusion.compared)} differences "
            f"that this run tested: corrected for that (p = {conclusion.adjusted_p:.2g}), chance is not ruled out."
        )
    elif conclusion.looks_worse:
        details.append("The interval ends at zero: what is measured is a loss, but chance is not ruled out.")
    else:
        details.append("The interval contains zero: this run cannot tell the difference from chance.")
    return details + _too_few(conclusion)


def _elsewhere(conclusion: Conclusion) -> str:
    result = conclusion.result
    return (
        f"On {result.name} ({result.provenance}) it is {conclusion.verdict.value}: "
        f"{figures.interval(conclusion.difference)} points."
    )


def _too_few(conclusion: Conclusion) -> list[str]:
    needed, queries = needed_queries(conclusion), conclusion.result.queries
    takes = "" if needed is None else f"to be sure within 1 point takes about {figures.count(needed)}"
    if conclusion.verdict is Verdict.UNDECIDED and 0 < queries < _FEW_QUERIES:
        few = "So few queries show large differences only"
        words = f"{few}; {takes}, and here are {figures.count(queries)}." if takes else f"{few}."
        return [f"{words} More documents, or labelled queries, tell more."]
    return [f"{takes.capitalize()} {conclusion.result.unit}."] if takes else []


def needed_queries(conclusion: Conclusion | None, *, smallest: float = SMALLEST_DIFFERENCE) -> int | None:
    """About how many queries would tell a difference of `smallest`, in two significant digits.

    Args:
        conclusion: on the set; None where there is none.
        smallest: the smallest difference that matters.

    Returns:
        None where there are enough, or where nothing can be said.
    """
    if conclusion is None or not conclusion.result.queries:
        return None
    difference = conclusion.difference
    width = difference.high - difference.low
    if width <= 0 or max(abs(difference.low), abs(difference.high)) <= smallest:
        return None
    if conclusion.result.few_words(difference):
        return None
    return rough(queries_to_tell(conclusion.result.queries, width, smallest=smallest))


def _what_else(conclusion: Conclusion, changes: Sequence[QueryChanges]) -> list[str]:
    result = conclusion.result
    details = []
    if conclusion.verdict is not Verdict.BETTER and result.metric == NDCG:
        details += {
            "nothing": [
                "The base model already answers every one of these queries: there is nothing to gain on this set."
            ],
            "next to nothing": [
                "The base model is less than a point from the top: there is next to nothing to gain on this set."
            ],
            "something": [],
        }[left_to_gain(conclusion.base_score)]
    details += [_first_place(moved) for moved in changes if moved.set == result.name]
    if result.evidence == "written":
        details.append("The queries were written by a language model: take this as an estimate, not as a proof.")
    return details


def _first_place(moved: QueryChanges) -> str:
    if moved.total < _FEW_QUERIES:
        now, then = (
            f"{figures.count(first)} of {figures.count(moved.total)}"
            for first in (moved.model_first, moved.base_first)
        )
        return f"The right document comes first for {now} queries; before, for {then}."
    before, after = (figures.percent(first, moved.total) for first in (moved.base_first, moved.model_first))
    return f"The right document comes first for {after} of them; before, for {before}."
