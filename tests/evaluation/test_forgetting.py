from __future__ import annotations

import pytest

from multigrain.evaluation.forgetting import ForgettingVerdict, judge_forgetting
from multigrain.evaluation.results import ModelScores, SetResult
from multigrain.evaluation.significance import PairedDifference


def result(change: float, low: float | None = None, high: float | None = None, role: str = "forgetting") -> SetResult:
    delta = {} if low is None or high is None else {"tuned": PairedDifference(change, low, high, 0.5)}
    scores = {"base": ModelScores(0.8), "tuned": ModelScores(0.8 + change)}
    return SetResult("unrelated", role, "people", 100, 200, scores, delta)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (result(0.02, 0.01, 0.03), "kept"),
        (result(-0.005, -0.009, -0.001), "kept"),  # surely worse, and by less than what matters
        (result(-0.02, -0.03, -0.012), "forgot"),
        (result(-0.02, -0.05, 0.01), "unclear"),
        (result(0.0, -0.02, 0.02), "unclear"),  # "no significant loss" is no proof of none
        (result(-0.002), "kept"),  # one number: nothing to resample
        (result(-0.02), "forgot"),
    ],
)
def test_a_loss_is_judged_against_the_threshold(found: SetResult, verdict: str) -> None:
    (judged,) = judge_forgetting([found], model="tuned", threshold=0.01)
    assert judged.verdict == verdict
    assert judged.sentence.startswith("unrelated: ")
    assert f"{100 * judged.change:+.1f} points" in judged.sentence


def test_only_forgetting_sets_are_judged_and_the_threshold_decides() -> None:
    sets = [result(-0.02, -0.03, -0.012), result(-0.02, -0.03, -0.012, role="test")]
    (judged,) = judge_forgetting(sets, model="tuned", threshold=0.05)
    assert judged.verdict is ForgettingVerdict.KEPT
    assert "5 points" in judged.sentence
    assert judge_forgetting(sets, model="base", threshold=0.01) == []
    assert judge_forgetting(sets, model="unknown", threshold=0.01) == []
