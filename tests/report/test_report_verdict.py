from __future__ import annotations

from dataclasses import replace

import pytest

from multigrain.report.data import Evaluation, EvaluationSet, Interval, ModelScore, QueryChanges
from multigrain.report.verdict import headline, judge_forgetting


def _evaluation(delta, *, role="test", label="human-written titles", chosen="tuned"):
    after = 0.708 + (delta.mean if delta else 0)
    scores = (ModelScore("base", 0.708, 0.8), ModelScore("tuned", after, 0.82, delta))
    held_out = EvaluationSet("docs", role, label, 900, 2000, scores)
    return Evaluation(chosen, "validation nDCG@10", ("base", "tuned"), (held_out,), 10_000, 0.95, 13)


def test_a_gain_is_claimed_where_the_interval_is_above_zero():
    said = headline(_evaluation(Interval(0.033, 0.021, 0.045)))
    assert said.verdict == "better"
    assert said.title == "Tuning raised nDCG@10 from .708 to .741"
    assert said.details[0] == "+3.3 [2.1, 4.5] points (95% interval) on 900 held-out queries: human-written titles."


@pytest.mark.parametrize(
    "delta", [Interval(0.02, 0.0, 0.04), Interval(0.03, -0.001, 0.06), Interval(-0.01, -0.02, 0.001)]
)
def test_nothing_is_claimed_where_the_interval_holds_zero(delta):
    said = headline(_evaluation(delta))
    assert said.verdict == "unclear"
    assert said.title.startswith("No measurable gain")
    assert "chance" in " ".join(said.details)


def test_few_queries_are_called_few_where_they_leave_it_open():
    few, many = _evaluation(Interval(0.02, -0.1, 0.1)), _evaluation(Interval(0.02, -0.1, 0.1))
    few = replace(few, sets=(replace(few.sets[0], queries=13),))
    assert "So few queries" in " ".join(headline(few).details)
    assert "So few queries" not in " ".join(headline(many).details)


def test_a_loss_is_called_one():
    said = headline(_evaluation(Interval(-0.018, -0.03, -0.006)))
    assert said.verdict == "worse"
    assert said.title == "The tuned model is worse: nDCG@10 fell from .708 to .690"


def test_synthetic_queries_are_called_an_estimate():
    delta = Interval(0.033, 0.021, 0.045)
    assert "estimate" in " ".join(headline(_evaluation(delta, label="synthetic estimate")).details)
    assert "estimate" not in " ".join(headline(_evaluation(delta)).details)


def test_validation_alone_proves_nothing():
    said = headline(_evaluation(Interval(0.033, 0.021, 0.045), role="validation"))
    assert said.verdict == "unclear"
    assert "not tested" in said.title
    assert ".741" not in said.title


def test_keeping_the_base_model_is_said():
    said = headline(_evaluation(None, chosen="base"))
    assert said.verdict == "unclear"
    assert "base model stays" in said.title


def test_a_missing_comparison_claims_nothing():
    assert headline(_evaluation(None)).badge == "not compared"


def test_the_share_of_right_answers_in_first_place_comes_from_the_queries():
    moved = QueryChanges("docs", 300, 500, 100, 520, 567, (), ())
    details = headline(_evaluation(Interval(0.033, 0.021, 0.045)), (moved,)).details
    assert "The right document comes first for 63% of them; before, for 58%." in details


@pytest.mark.parametrize(
    ("delta", "verdict", "words"),
    [
        (Interval(-0.012, -0.02, -0.004), "worse", "forgotten: more than the 1 point allowed is lost"),
        (Interval(-0.008, -0.02, -0.004), "unclear", "too few queries to tell whether more than the 1 point allowed"),
        (Interval(-0.012, -0.03, 0.004), "unclear", "too few queries to tell whether more than the 1 point allowed"),
        (Interval(-0.004, -0.009, -0.001), "unclear", "nothing lost beyond the 1 point allowed"),
        (Interval(0.01, 0.002, 0.02), "better", "measurably better than before"),
    ],
)
def test_forgetting_is_judged_by_its_interval(delta, verdict, words):
    (judged,) = judge_forgetting(_evaluation(delta, role="forgetting"))
    assert judged.verdict == verdict
    assert judged.words.startswith(words)
    assert judge_forgetting(_evaluation(delta)) == ()
