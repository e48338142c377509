"""What results come to: the one rule by which any page, table or command claims a difference.

A difference from the base model is claimed where two things hold: its interval stays clear of zero, and its p-value
stays below 1 - confidence after Holm's correction over every difference from that base in the same results, except
those on validation sets, which chose the model and so cannot judge it.

- Corrected, because whoever looks at ten differences finds a "significant" one by chance too often. The family is what
  the results hold, not what a surface shows of it: a report that speaks of the chosen model alone and a table of all
  models read the same file, and would contradict each other if each counted for itself. The price is that a further
  candidate or set asks for a little more evidence from all.
- The interval too, because it stands beside every claim: "better, by +1.0 [-0.1, 2.1]" would contradict itself. The
  interval and the randomisation test may disagree close to the border; then nothing is claimed.
- No claim is not "no difference". That is said only where the whole interval lies within the smallest difference that
  matters, and the queries are a hundred clusters or more; else there are too few queries to tell.

Whether a model forgot is the opposite question, and so has a bound of its own: a set is passed only where the whole
interval stays above minus the threshold, as "no significant loss" on few queries would pass any model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from multigrain.evaluation.results import EvaluationResults, SetResult
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE
from multigrain.evaluation.significance import PairedDifference, holm

FEWEST_FOR_NO_DIFFERENCE: Final = 100
"""Clusters below which queries that all stay as they are say nothing: of 50, none may differ though 3 in 100 do."""

_FULL: Final = 0.9995
"""A score from here on is shown as 1.000."""
ABOUT_ZERO: Final = 0.0005
"""A smaller difference is shown as 0.0 points."""
_KEEP: Final = "keep the base model until more documents, or a better language model, show a gain on the test queries"


class Verdict(StrEnum):
    """What may be said of a difference."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "no difference that matters"
    UNDECIDED = "not enough queries to tell"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A model against the base on one set, and what may be said of it.

    Attributes:
        result: the set with both models' scores.
        base: the base model's name.
        model: the other model's name.
        adjusted_p: the p-value, corrected over all differences that were concluded together.
        compared: how many these are.
        verdict: what may be said.
        queries_needed: where there are not enough queries, about how many would do; else None.
        wins: queries on which the model is better; None where queries have no score of their own.
        losses: queries on which it is worse.
    """

    result: SetResult
    base: str
    model: str
    adjusted_p: float
    compared: int
    verdict: Verdict
    queries_needed: int | None
    wins: int | None = None
    losses: int | None = None

    @property
    def difference(self) -> PairedDifference:
        """Score minus the base model's score."""
        return self.result.delta[self.model]

    @property
    def score(self) -> float:
        """The model's score."""
        return self.result.models[self.model].score

    @property
    def base_score(self) -> float:
        """The base model's score."""
        return self.result.models[self.base].score

    @property
    def is_claimed(self) -> bool:
        """Whether a difference is claimed."""
        return self.verdict in (Verdict.BETTER, Verdict.WORSE)

    @property
    def looks_worse(self) -> bool:
        """Whether nothing is claimed or excluded, and everything that is measured points down."""
        return (
            self.verdict is Verdict.UNDECIDED
            and self.difference.mean < -ABOUT_ZERO
            and self.difference.high < ABOUT_ZERO
        )

    @property
    def looks_better(self) -> bool:
        """Whether nothing is claimed or excluded, and the mean points up."""
        return self.verdict is Verdict.UNDECIDED and self.difference.mean > ABOUT_ZERO

    @property
    def is_undone_by_correction(self) -> bool:
        """Whether the interval stays clear of zero, and only the number of comparisons forbids a claim."""
        return not self.is_claimed and (self.difference.low > 0 or self.difference.high < 0)

    @property
    def is_below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.difference.high < 0


def conclude(
    sets: Iterable[SetResult], *, base: str, confidence: float, smallest: float = SMALLEST_DIFFERENCE
) -> tuple[Conclusion, ...]:
    """Conclude every difference from one base model together, set by set; see the module's rule.

    Args:
        sets: with differences from that base model. Validation sets are left out.
        base: its name.
        confidence: of the intervals; 1 - confidence is the chance of a false claim that is accepted.
        smallest: the smallest difference that matters.
    """
    tested = [(result, model) for result in sets if result.role != "validation" for model in result.delta]
    corrected = holm([result.delta[model].p_value for result, model in tested])
    conclusions = []
    for (result, model), adjusted_p in zip(tested, corrected, strict=True):
        difference = result.delta[model]
        clusters = max(1, result.clusters or result.queries)
        verdict, needed = _verdict(difference, adjusted_p, 1 - confidence, smallest, clusters), None
        if verdict is Verdict.UNDECIDED:
            needed = max(
                queries_to_tell(result.queries, difference.high - difference.low, smallest=smallest),
                math.ceil(result.queries * FEWEST_FOR_NO_DIFFERENCE / clusters),
            )
        conclusions.append(Conclusion(result, base, model, adjusted_p, len(tested), verdict, needed))
    return tuple(conclusions)


def _verdict(difference: PairedDifference, adjusted_p: float, alpha: float, smallest: float, clusters: int) -> Verdict:
    if adjusted_p < alpha and difference.low > 0:
        return Verdict.BETTER
    if adjusted_p < alpha and difference.high < 0:
        return Verdict.WORSE
    if is_within(difference, smallest) and clusters >= FEWEST_FOR_NO_DIFFERENCE:
        return Verdict.EQUAL
    return Verdict.UNDECIDED


def is_within(difference: PairedDifference, smallest: float) -> bool:
    """Whether the whole interval lies within the smallest difference that matters."""
    return max(abs(difference.low), abs(difference.high)) <= smallest


def conclusions_of(results: EvaluationResults) -> tuple[Conclusion, ...]:
    """Conclude everything that results hold."""
    return conclude(results.sets, base=results.base, confidence=results.confidence)


def conclusion_on(conclusions: Iterable[Conclusion], set_name: str, model: str) -> Conclusion | None:
    """The conclusion on one set and model, or None where there is none."""
    return next(
        (conclusion for conclusion in conclusions if (conclusion.result.name, conclusion.model) == (set_name, model)),
        None,
    )


def queries_to_tell(queries: int, width: float, *, smallest: float = SMALLEST_DIFFERENCE) -> int:
    """About how many queries would tell two models apart.

    An interval no wider than the smallest difference that matters cannot hold both zero and such a difference, and its
    width shrinks with the square root of the number of queries.

    Args:
        queries: how many were asked.
        width: of the interval of the difference that they gave, on a scale of 0 to 1.
        smallest: the smallest difference that matters.
    """
    return max(queries + 1, math.ceil(queries * (width / smallest) ** 2))


def left_to_gain(base: float) -> Literal["nothing", "next to nothing", "something"]:
    """How much better than the base model anything could be.

    Args:
        base: its score, 0 to 1.
    """
    if base >= _FULL:
        return "nothing"
    return "next to nothing" if base > 1 - SMALLEST_DIFFERENCE else "something"


class ForgettingVerdict(StrEnum):
    """What may be said of an unrelated set."""

    KEPT = "kept"
    FORGOT = "forgot"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One unrelated set's outcome.

    Attributes:
        result: the set.
        model: the model that was judged.
        verdict: what it amounts to.
        change: the model's score minus the base model's, on a scale of 0 to 1.
        words: the verdict for a person.
        sentence: the same with the set's name and figures.
    """

    result: SetResult
    model: str
    verdict: ForgettingVerdict
    change: float
    words: str
    sentence: str


def judge_forgetting(results: EvaluationResults, models: Sequence[str] | None = None) -> list[Forgetting]:
    """Judge models on every forgetting set that they and the base model were scored on.

    Args:
        results: with the threshold of what a model may lose.
        models: which models; None for the chosen one.
    """
    return [
        _judge_forgetting(result, model, results.base, results.forgetting_threshold)
        for model in ([results.chosen] if models is None else models)
        for result in results.with_role("forgetting")
        if model != results.base and {model, results.base} <= result.models.keys()
    ]


def _judge_forgetting(result: SetResult, model: str, base: str, threshold: float) -> Forgetting:
    change = result.models[model].score - result.models[base].score
    difference = result.delta.get(model)
    low, high = (change, change) if difference is None else (difference.low, difference.high)
    allowed = points_allowed(threshold)
    figure = f"{100 * change:+.1f} points of {result.metric}"
    figure += "" if difference is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    if low >= -threshold:
        verdict, words = ForgettingVerdict.KEPT, f"{model} keeps what it knew, to within {allowed}"
    elif change < -threshold and high < 0:
        verdict, words = ForgettingVerdict.FORGOT, f"{model} has forgotten more than the {allowed} allowed"
    else:
        verdict, words = ForgettingVerdict.UNCLEAR, f"cannot tell whether {model} lost more than the {allowed} allowed"
    return Forgetting(result, model, verdict, change, words, f"{result.name}: {words}: {figure}")


def points_allowed(threshold: float) -> str:
    """A difference on a scale of 0 to 1 in points: "1 point", "5 points"."""
    return f"{100 * threshold:g} point" + ("" if threshold == 0.01 else "s")


Decision = Literal[
    "base", "use", "worse", "looks worse", "no better on validation", "not shown", "no gain", "untested"
]
"""base: validation chose the base model. use: a gain is claimed on a test set that decides. worse: a loss is, or no
gain is and a loss on another. looks worse: no gain is, and an interval lies below zero. no better on validation: it
did not beat the base model where it was chosen. not shown: it points up, on too few queries to tell. no gain: it does
not even point up, or nothing that matters was gained. untested: there is no test set."""


def decide(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> Decision:
    """What to do with the chosen model.

    Args:
        results: that chose it.
        conclusions: of these results, see `conclusions_of`.
    """
    if results.chosen == results.base:
        return "base"
    tests = deciding_tests(results, conclusions)
    verdicts = {conclusion.verdict for conclusion in tests}
    if Verdict.WORSE in verdicts:
        return "worse"
    if Verdict.BETTER in verdicts:
        return "use"
    if any(conclusion.verdict is Verdict.WORSE for conclusion in lesser_claims(results, conclusions)):
        return "worse"
    if any(conclusion.is_below_zero for conclusion in tests):
        return "looks worse"
    if results.beat_base() is False:
        return "no better on validation"
    if not tests:
        return "untested"
    return "not shown" if any(conclusion.looks_better for conclusion in tests) else "no gain"


def deciding_tests(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> list[Conclusion]:
    """The conclusions on the chosen model that decide: those of the test sets with the best evidence.

    Judgments go before titles that people wrote, and these before queries that a language model wrote; see
    `SetResult.evidence_rank`. A set of people's that does not decide is shown, and warned of where the model loses.
    """
    tests = _tests_of_chosen(results, conclusions)
    ranks = [conclusion.result.evidence_rank for conclusion in tests]
    return [conclusion for conclusion, rank in zip(tests, ranks, strict=True) if rank == min(ranks)]


def lesser_claims(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> list[Conclusion]:
    """What is claimed of the chosen model on test sets that do not decide, though people wrote their queries."""
    deciding = deciding_tests(results, conclusions)
    return [
        conclusion
        for conclusion in _tests_of_chosen(results, conclusions)
        if conclusion.is_claimed and conclusion not in deciding and not results.is_minor(conclusion.result)
    ]


def _tests_of_chosen(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> list[Conclusion]:
    return [
        conclusion
        for conclusion in conclusions
        if conclusion.result.role == "test" and conclusion.model == results.chosen
    ]


def recommendation(
    results: EvaluationResults, conclusions: Sequence[Conclusion], *, rival: str = ""
) -> tuple[Decision, str]:
    """The decision, and the words that follow "model/ holds MODEL".

    Args:
        results: that chose the model.
        conclusions: of these results, see `conclusions_of`.
        rival: a model to take instead of those of the run; empty where there is none.
    """
    decision, chosen = decide(results, conclusions), results.chosen
    keep = f"take {rival}" if rival else _KEEP
    if decision == "use":
        forgot = any(judged.verdict is ForgettingVerdict.FORGOT for judged in judge_forgetting(results))
        reserves = ["the unrelated set's, where it got worse"] if forgot else []
        reserves += [
            f"that of {conclusion.result.name}, where the whole interval lies below zero"
            for conclusion in _tests_of_chosen(results, conclusions)
            if conclusion.is_below_zero and not results.is_minor(conclusion.result)
        ]
        use = f"it is better than the base model, and {rival} is better still" if rival else "use it"
        return decision, f"; {use}" + (f", but not for text like {' or '.join(reserves)}" if reserves else "")
    return decision, {
        "base": " model, unchanged: no tuned model did better on the validation queries",
        "worse": f", although it is worse than the base model on the test queries: {keep}",
        "looks worse": f", although a test set's whole interval lies below zero: {keep}",
        "no better on validation": f", although it did not beat the base model on the validation queries: {keep}",
        "no gain": f", although the test shows no gain: {keep}",
        "not shown": f", not the base model: {chosen} may be better, but that is not shown; "
        + (f"{keep} instead" if rival else f"keep the base model, or test {chosen} on more queries before you use it"),
        "untested": "; test it on queries of your own before you use it",
    }[decision]
