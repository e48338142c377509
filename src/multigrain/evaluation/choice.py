"""The one verdict over base, tuned model and rivals: which of them to search with, or to tune.

A rival is better than a model of the run where the rule of `evaluation.verdict` says so, on the test sets that decide:
those with the best evidence. Its differences are corrected (Holm) over all rivals and test sets, one family for each
model of the run; so rivals cost the tuned model's own claim nothing.

- take the rival: one is better than the model of the run that may be used.
- tune the rival: tuning gained on the base, a rival that can be tuned is better than the base, and the tuned model is
  not shown to be better than it: it starts about where tuning ended.
- take the tuned model: tuning gained, and neither of these holds.
- keep the base model: otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from multigrain.display import numbers as figures
from multigrain.encoders.facts import BM25, HYBRID
from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult
from multigrain.evaluation.rival import Rival
from multigrain.evaluation.verdict import (
    Conclusion,
    Decision,
    Verdict,
    conclude,
    decide,
    deciding_tests,
    recommendation,
)

_WITHOUT_TUNING: Final = {
    BM25: "; it counts words, without a model",
    HYBRID: "; it is BM25 and the model of model/ together, their ranks joined as docs/guides/evaluation.md says",
}
"""What the rivals are that every run has."""


class Choice(StrEnum):
    """What to do."""

    KEEP_BASE = "keep the base model"
    TAKE_TUNED = "take the tuned model"
    TAKE_RIVAL = "take the rival"
    TUNE_RIVAL = "tune the rival"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The verdict.

    Attributes:
        choice: what to do.
        model: with which model.
        reason: why, in a sentence with figures.
    """

    choice: Choice
    model: str
    reason: str

    @property
    def title(self) -> str:
        """What to do, at the beginning of a sentence."""
        rival = f" {self.model}" if self.choice in (Choice.TAKE_RIVAL, Choice.TUNE_RIVAL) else ""
        return f"{self.choice.value.capitalize()}{rival}"

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


def over(results: EvaluationResults, model: str) -> tuple[Conclusion, ...]:
    """Every rival against a model of the run on every test set, concluded together.

    Args:
        results: with rivals.
        model: the base, or the model that was chosen.
    """
    sets = (_seen_from(result, model, results.rivals) for result in results.with_role("test"))
    return conclude([result for result in sets if result.delta], base=model, confidence=results.confidence)


def _seen_from(result: SetResult, model: str, rivals: Sequence[Rival]) -> SetResult:
    """A set with the rivals beside one model of the run."""
    found = {rival.name: rival.sets[result.name] for rival in rivals if result.name in rival.sets}
    found = {name: scores for name, scores in found.items() if model in scores.over and model in result.models}
    models = {name: ModelScores(scores.score, scores.metrics) for name, scores in found.items()}
    return replace(
        result,
        models={model: result.models[model], **models} if models else {},
        delta={name: scores.over[model] for name, scores in found.items()},
    )


def choose_model(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> Chosen | None:
    """The verdict; None where nothing was chosen, or where there is no test set.

    Args:
        results: of a run.
        conclusions: of its own models, see `conclusions_of`.
    """
    tests = results.with_role("test")
    if not results.chosen or not tests:
        return None
    tuned = decide(results, conclusions) == "use"
    own = results.chosen if tuned else results.base
    better = _better(results, own)
    if better:
        best = better[0]
        more = "; tuned, it may gain as well (training.base_model)" if tuned and _tunable(results, best.model) else ""
        what = _WITHOUT_TUNING.get(best.model, "")
        return Chosen(Choice.TAKE_RIVAL, best.model, f"{_difference(best, own)}{more}{what}")
    if tuned and (start := next(_equals(results, own), None)) is not None:
        beside = f"untuned it is about where tuning brought the base, {_difference(start, results.base)}"
        return Chosen(
            Choice.TUNE_RIVAL, start.model, f"{beside}; set training.base_model to it. Until then {own} will do"
        )
    compared = "no rival is shown to be better" if any(rival.sets for rival in results.rivals) else ""
    if tuned:
        shown = next(each for each in deciding_tests(results, conclusions) if each.verdict is Verdict.BETTER)
        reason = f"it is better than the base model on {shown.result.name}"
        return Chosen(Choice.TAKE_TUNED, own, "; ".join(filter(None, (reason, compared))))
    reason = "no tuned model is shown to be better" if results.chosen != results.base else "validation chose it"
    return Chosen(Choice.KEEP_BASE, own, "; ".join(filter(None, (reason, compared))))


def plain_choice(chosen: Chosen | None) -> dict[str, str] | None:
    """The verdict as JSON-like values."""
    if chosen is None:
        return None
    return {"verdict": chosen.choice.value, "model": chosen.model, "reason": chosen.reason}


def plain_rivals(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> dict[str, Any]:
    """Rivals, costs and verdict as JSON-like values."""
    return {
        "rivals": [asdict(rival) for rival in results.rivals],
        "costs": {name: asdict(cost) for name, cost in results.costs.items()},
        "choice": plain_choice(choose_model(results, conclusions)),
    }


def advise(results: EvaluationResults, conclusions: Sequence[Conclusion]) -> tuple[Decision, str]:
    """The decision on the chosen model in the light of its rivals, and the words after "model/ holds MODEL".

    Args:
        results: of a run.
        conclusions: of its own models, see `conclusions_of`.
    """
    verdict = choose_model(results, conclusions)
    taken = verdict is not None and verdict.choice is Choice.TAKE_RIVAL
    return recommendation(results, conclusions, rival=verdict.model if verdict is not None and taken else "")


def rival_lines(results: EvaluationResults) -> Iterator[str]:
    """The rivals' figures and what each model costs, for a terminal."""
    against = dict.fromkeys((results.base, results.chosen))
    for result in results.with_role("test"):
        for rival in results.rivals:
            scores = rival.sets.get(result.name)
            if scores is not None:
                over = (
                    f"{figures.interval(difference, result.few_words(difference))} against {name}"
                    for name, difference in ((name, scores.over[name]) for name in against)
                )
                yield f"{result.name}: rival {rival.name} {scores.score:.3f} ({', '.join(over)}, in points)"
    for name, cost in results.costs.items():
        yield f"{name}: {cost}"


def _better(results: EvaluationResults, model: str) -> list[Conclusion]:
    """The rivals that are better than a model of the run on a set that decides and worse on none, the best first."""
    concluded = over(results, model)
    best = min((result.evidence_rank for result in results.with_role("test")), default=0)
    deciding = [each for each in concluded if each.result.evidence_rank == best]
    worse = {each.model for each in deciding if each.verdict is Verdict.WORSE}
    found = [each for each in deciding if each.verdict is Verdict.BETTER and each.model not in worse]
    return sorted(found, key=lambda each: -each.difference.mean)


def _equals(results: EvaluationResults, tuned: str) -> Iterator[Conclusion]:
    """Rivals that can be tuned, are better than the base, and are not shown to be worse than the tuned model."""
    beaten = {each.model for each in over(results, tuned) if each.verdict is Verdict.WORSE}
    for each in _better(results, results.base):
        if _tunable(results, each.model) and each.model not in beaten:
            yield each


def _tunable(results: EvaluationResults, name: str) -> bool:
    return any(rival.tunable for rival in results.rivals if rival.name == name)


def _difference(conclusion: Conclusion, model: str) -> str:
    result = conclusion.result
    return (
        f"{result.metric} {figures.score(conclusion.score)} against {figures.score(conclusion.base_score)} of {model} "
        f"on {result.name} ({figures.interval(conclusion.difference)} points)"
    )
