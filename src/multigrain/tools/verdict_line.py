"""The verdict of a run in a form that programs read: an object for --json, and one line for people's logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from multigrain.evaluation.choice import choose_model
from multigrain.evaluation.results import EvaluationResults, read_results
from multigrain.evaluation.stored import RESULTS_FILE
from multigrain.evaluation.verdict import Verdict, conclusion_on, conclusions_of
from multigrain.storage.rundir import RunDirectory

VerdictWord = Literal["better", "worse", "equal", "undecided", "base_kept", "not_tested"]


_WORDS: Final[Mapping[Verdict, VerdictWord]] = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.EQUAL: "equal",
    Verdict.UNDECIDED: "undecided",
}


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What a run may claim of its chosen model on its first test set.

    Attributes:
        verdict: better or worse: a difference is claimed. equal: no difference that matters. undecided: too few
            queries to tell. base_kept: validation chose the base model. not_tested: there is no test set.
        model: the chosen model.
        set: the test set; None without one, as everything below.
        evidence: who wrote and judged its queries.
        metric: what was measured, e.g. "ndcg@10".
        queries: how many.
        base: the base model's score, 0 to 1.
        tuned: the chosen model's.
        difference: tuned less base.
        low: lower end of its interval.
        high: upper end.
        confidence: of the interval.
        choice: where there are rivals, what to do: keep the base model, take the tuned model, take the rival, or tune
            the rival. What `model/` holds is another matter.
        choice_model: with which model.
    """

    verdict: VerdictWord
    model: str
    set: str | None = None
    evidence: str | None = None
    metric: str | None = None
    queries: int | None = None
    base: float | None = None
    tuned: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    choice: str | None = None
    choice_model: str | None = None

    def line(self) -> str:
        """The verdict as `verdict: WORD key=value …`; a value with spaces stands in quotes."""
        values = {key: value for key, value in asdict(self).items() if key != "verdict" and value is not None}
        return " ".join([f"verdict: {self.verdict}", *(f"{key}={_plain(value)}" for key, value in values.items())])


def run_verdict(run: RunDirectory) -> RunVerdict:
    """The verdict of a run whose evaluation is complete."""
    return verdict_of(read_results(run.results_path / RESULTS_FILE))


def verdict_of(results: EvaluationResults) -> RunVerdict:
    """The verdict that results allow; `evaluation.verdict` decides."""
    conclusions = conclusions_of(results)
    chosen = choose_model(results, conclusions) if results.rivals else None
    choice, choice_model = (None, None) if chosen is None else (chosen.choice.value, chosen.model)
    if results.chosen == results.base:
        return RunVerdict("base_kept", results.chosen, choice=choice, choice_model=choice_model)
    tested = results.headline_set
    conclusion = None if tested is None else conclusion_on(conclusions, tested.name, results.chosen)
    if tested is None or conclusion is None:
        return RunVerdict("not_tested", results.chosen, choice=choice, choice_model=choice_model)
    difference = conclusion.difference
    return RunVerdict(
        verdict=_WORDS[conclusion.verdict],
        model=results.chosen,
        set=tested.name,
        evidence=str(tested.evidence),
        metric=tested.metric,
        queries=tested.queries,
        base=round(conclusion.base_score, 4),
        tuned=round(conclusion.score, 4),
        difference=round(difference.mean, 4),
        low=round(difference.low, 4),
        high=round(difference.high, 4),
        confidence=results.confidence,
        choice=choice,
        choice_model=choice_model,
    )


def _plain(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text else text
