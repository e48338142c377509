"""What a run may claim, in sentences: a gain only where its interval excludes zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from multigrain.display import numbers as figures
from multigrain.evaluation.compare import queries_to_tell
from multigrain.evaluation.messages import rough
from multigrain.evaluation.verdict import ABOUT_ZERO, SMALLEST_DIFFERENCE, decide, left_to_gain
from multigrain.report.data import Evaluation, EvaluationSet, Interval, QueryChanges, Verdict

__all__ = ["SetVerdict", "Statement", "Tone", "enough_queries", "headline", "judge_forgetting"]

Tone = Literal["better", "unclear", "doubtful", "worse"]

_FEW_QUERIES: Final = 100
_UNTIL_A_GAIN: Final = (
    "keep the base model until more documents, or a better language model, show a gain on the test queries."
)


@dataclass(frozen=True, slots=True)
class Statement:
    """The first thing on the page.

    Attributes:
        verdict: what it amounts to.
        badge: the verdict in a few words.
        title: one sentence with the two figures.
        details: sentences that say on what, how sure, and what else to know.
        advice: what `model/` holds, and what to do with it.
        looks_worse: whether nothing is shown, and everything that is points down.
    """

    verdict: Verdict
    badge: str
    title: str
    details: tuple[str, ...]
    advice: str = ""
    looks_worse: bool = False

    @property
    def tone(self) -> Tone:
        """The verdict, with a shade between unclear and worse."""
        return "doubtful" if self.looks_worse else self.verdict


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
        return Statement("unclear", "base model kept", title, (), "model/ holds the base model, unchanged.")
    if tested is None:
        return _untested(evaluation)
    base, chosen = tested.score("base"), tested.score(evaluation.chosen)
    if base is None or chosen is None or chosen.delta is None:
        title = f"{evaluation.chosen} was not compared with the base model on {tested.name}"
        return Statement("unclear", "not compared", title, (), _test_it_first(evaluation))
    before, after = figures.score(base.score), figures.score(chosen.score)
    verdict = chosen.delta.verdict
    looks_worse = verdict == "unclear" and chosen.delta.mean < -ABOUT_ZERO and chosen.delta.high < ABOUT_ZERO
    badge, title = {
        "better": ("measured gain", f"Tuning raised {tested.metric} from {before} to {after}"),
        "unclear": ("no measurable gain", f"No measurable gain: {tested.metric} {before} before, {after} after"),
        "doubtful": (
            "no gain shown; looks worse, too few queries to be sure",
            f"No gain shown: {tested.metric} {before} before, {after} after",
        ),
        "worse": ("worse than before", f"The tuned model is worse: {tested.metric} fell from {before} to {after}"),
    }["doubtful" if looks_worse else verdict]
    unit = "pairs" if tested.metric == "Spearman" else "queries"
    on = f"{figures.count(tested.queries)} held-out {unit}: " if tested.queries else ""
    details = [
        f"{figures.interval(chosen.delta)} points ({evaluation.confidence:.0%} interval) on {on}{tested.label}."
    ]
    if verdict == "unclear":
        details.append(
            "The interval ends at zero: what is measured is a loss, but chance is not ruled out."
            if looks_worse
            else "The interval contains zero: this run cannot tell the difference from chance."
        )
        details += _too_few(tested, chosen.delta)
    if verdict != "better" and tested.metric == "nDCG@10":
        details += _ceiling(base.score)
    details += _first_place(tested, changes)
    if "synthetic" in tested.label.lower():
        details.append("The queries were written by a language model: take this as an estimate, not as a proof.")
    return Statement(verdict, badge, title, tuple(details), _advice(evaluation), looks_worse)


def _untested(evaluation: Evaluation) -> Statement:
    return Statement(
        "unclear",
        "not tested",
        "Tuned, but not tested on held-out queries",
        (f"There is no test set. Validation figures chose {evaluation.chosen}, so they flatter it.",),
        _test_it_first(evaluation),
    )


def _test_it_first(evaluation: Evaluation) -> str:
    return f"model/ holds {evaluation.chosen}: test it on queries of your own before you use it."


def _advice(evaluation: Evaluation) -> str:
    holds = f"model/ holds {evaluation.chosen}"
    scores = (each.score(evaluation.chosen) for each in evaluation.with_role("test"))
    tests = [score.delta for score in scores if score is not None and score.delta is not None]
    decision = decide(tests, beat_base=_beat_base_on_validation(evaluation))
    if decision == "use":
        lost = any(each.verdict == "worse" for each in judge_forgetting(evaluation))
        return f"{holds}; use it" + (
            ", but not for text like the unrelated set's, where it got worse." if lost else "."
        )
    return {
        "worse": f"{holds}, although it is worse than the base model: {_UNTIL_A_GAIN}",
        "no better on validation": (
            f"{holds}, although it did not beat the base model on the validation queries: {_UNTIL_A_GAIN}"
        ),
        "not shown": f"{holds}; it may be better, but that is not shown: test it on more queries before you use it.",
        "no gain": f"{holds}, although the test shows no gain: {_UNTIL_A_GAIN}",
    }[decision]


def _beat_base_on_validation(evaluation: Evaluation) -> bool | None:
    """Whether the chosen model scored above the base, in the mean over the sets that chose; None without any."""
    gains = []
    for each in filter(evaluation.chose, evaluation.sets):
        base, chosen = each.score("base"), each.score(evaluation.chosen)
        if base is not None and chosen is not None:
            gains.append(chosen.score - base.score)
    return sum(gains) > 0 if gains else None


def enough_queries(queries: int, difference: Interval, *, smallest: float = SMALLEST_DIFFERENCE) -> int | None:
    """About how many queries would tell a difference of `smallest`, as `multigrain compare` counts them.

    Args:
        queries: how many there are.
        difference: what they showed.
        smallest: the smallest difference that matters.

    Returns:
        Two significant digits; None where there are enough, or where nothing can be said.
    """
    width = difference.high - difference.low
    if not queries or width <= 0 or max(abs(difference.low), abs(difference.high)) <= smallest:
        return None
    return rough(queries_to_tell(queries, width, smallest=smallest))


def _too_few(tested: EvaluationSet, difference: Interval) -> list[str]:
    needed = enough_queries(tested.queries, difference)
    few = "So few queries show large differences only"
    takes = "" if needed is None else f"to be sure within 1 point takes about {figures.count(needed)}"
    if 0 < tested.queries < _FEW_QUERIES:
        said = f"{few}; {takes}, and here are {figures.count(tested.queries)}." if takes else f"{few}."
        return [f"{said} More documents, or labelled queries, tell more."]
    return [f"{takes.capitalize()} queries."] if takes else []


def _ceiling(base: float) -> list[str]:
    left = left_to_gain(base)
    if left == "nothing":
        return ["The base model already answers every one of these queries: there is nothing to gain on this set."]
    if left == "next to nothing":
        return ["The base model is less than a point from the top: there is next to nothing to gain on this set."]
    return []


def _first_place(tested: EvaluationSet, changes: tuple[QueryChanges, ...]) -> list[str]:
    moved = next((each for each in changes if each.set_name == tested.name), None)
    if moved is None:
        return []
    total = moved.better + moved.same + moved.worse
    if total < _FEW_QUERIES:
        now, then = (
            f"{figures.count(each)} of {figures.count(total)}" for each in (moved.chosen_first, moved.base_first)
        )
        return [f"The right document comes first for {now} queries; before, for {then}."]
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
