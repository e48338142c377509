"""The verdict of a run as programs read it: the same as the report's, on one line."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult
from multigrain.evaluation.rival import Rival, RivalScores
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import Verdict
from multigrain.report.headline import headline
from multigrain.tools.verdict_line import verdict_of

ends = st.floats(-0.2, 0.2).map(lambda value: round(value, 4))


def results(
    low: float, high: float, p_value: float, *, role: str = "test", chosen: str = "tuned"
) -> EvaluationResults:
    mean = (low + high) / 2
    scores = {"base": ModelScores(0.5), "tuned": ModelScores(0.5 + mean)}
    difference = PairedDifference(mean, low, high, p_value)
    tested = SetResult("my set", role, "people", 300, 900, scores, {"tuned": difference})
    return EvaluationResults(chosen, ("base", "tuned"), (tested,), 1000, 0.95, 1)


@given(ends, ends, st.floats(0, 1))
def test_the_line_says_what_the_report_says(first: float, second: float, p_value: float) -> None:
    low, high = sorted((first, second))
    measured = results(low, high, p_value)
    verdict = verdict_of(measured)

    said = headline(measured).verdict
    assert verdict.verdict == {Verdict.EQUAL: "equal", Verdict.UNDECIDED: "undecided"}.get(said, said)
    head, word, *values = shlex.split(verdict.line())
    assert (head, word) == ("verdict:", verdict.verdict)
    pairs = dict(value.split("=", 1) for value in values)
    assert pairs["set"] == "my set"
    assert float(pairs["low"]) == pytest.approx(low, abs=1e-4)
    assert float(pairs["high"]) == pytest.approx(high, abs=1e-4)
    assert "\n" not in verdict.line()


def test_without_a_test_or_with_the_base_kept_there_are_no_figures() -> None:
    assert verdict_of(results(0.1, 0.2, 0.0, chosen="base")).line() == "verdict: base_kept model=base"
    assert verdict_of(results(0.1, 0.2, 0.0, role="validation")).line() == "verdict: not_tested model=tuned"


def test_the_line_names_what_to_do_where_rivals_were_compared() -> None:
    measured = results(0.05, 0.1, 0.0)
    rival = Rival("bm25", "bm25", sets={"my set": RivalScores(0.9, {}, {"base": gain(0.4), "tuned": gain(0.3)})})
    verdict = verdict_of(replace(measured, rivals=(rival,)))
    assert (verdict.verdict, verdict.choice, verdict.choice_model) == ("better", "take the rival", "bm25")
    assert verdict.line().endswith('choice="take the rival" choice_model=bm25')


def gain(mean: float) -> PairedDifference:
    return PairedDifference(mean, mean - 0.01, mean + 0.01, 0.0)
