from __future__ import annotations

from dataclasses import replace

import pytest

from multigrain.evaluation.compare import CompareSettings, Measured, conclude
from multigrain.evaluation.messages import describe_conclusion
from multigrain.evaluation.significance import PairedDifference
from multigrain.report.data import Evaluation, EvaluationSet, Interval, ModelScore, QueryChanges
from multigrain.report.verdict import enough_queries, headline, judge_forgetting


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


def _on(delta, *, base=0.7, queries=5, validation=None, name="test"):
    """Figures on a test set, and on a validation set where its two scores are given."""
    models = (ModelScore("base", base, 1.0), ModelScore("tuned", base + delta.mean, 1.0, delta))
    sets = [EvaluationSet(name, "test", "human-written titles", queries, 45, models)]
    if validation is not None:
        pair = (ModelScore("base", validation[0], 1.0), ModelScore("tuned", validation[1], 1.0, Interval(0, 0, 0)))
        sets.insert(0, EvaluationSet("validation", "validation", "human-written titles", 2, 45, pair))
    return Evaluation("tuned", "validation nDCG@10", ("base", "tuned"), tuple(sets), 10_000, 0.95, 13)


FELL = Interval(-0.0613, -0.1839, 0.0, 1.0)


def test_a_fall_whose_interval_ends_at_zero_looks_worse_and_is_not_called_no_change():
    said = headline(_on(FELL, base=1.0, validation=(1.0, 1.0)))
    assert said.badge == "no gain shown; looks worse, too few queries to be sure"
    assert (said.verdict, said.tone) == ("unclear", "doubtful")
    assert said.title == "No gain shown: nDCG@10 1.000 before, .939 after"
    assert "what is measured is a loss" in " ".join(said.details)
    for other in (Interval(-0.06, -0.18, 0.02), Interval(0.0, -0.1, 0.0), Interval(0.02, -0.1, 0.1)):
        assert headline(_on(other)).tone == "unclear"
    assert headline(_on(Interval(-0.06, -0.18, -0.01))).tone == "worse"


@pytest.mark.parametrize(
    ("delta", "validation", "advice"),
    [
        (Interval(0.03, 0.02, 0.04), (0.7, 0.8), "model/ holds tuned; use it."),
        (FELL, (1.0, 1.0), "although it did not beat the base model on the validation queries: keep the base model"),
        (FELL, (0.9, 1.0), "although the test shows no gain: keep the base model until more documents"),
        (FELL, None, "although the test shows no gain: keep the base model until more documents"),
        (Interval(0.02, -0.01, 0.05), (0.7, 0.8), "test it on more queries before you use it"),
        (Interval(0.02, -0.01, 0.05), (0.8, 0.8), "did not beat the base model on the validation queries"),
        (Interval(-0.03, -0.05, -0.01), (0.7, 0.8), "although it is worse than the base model: keep the base model"),
    ],
)
def test_the_advice_says_what_model_holds_and_what_to_do(delta, validation, advice):
    said = headline(_on(delta, validation=validation)).advice
    assert said.startswith("model/ holds tuned")
    assert advice in said


def test_only_the_sets_that_chose_say_whether_the_base_was_beaten_and_their_mean_counts():
    found = _on(Interval(0.02, -0.01, 0.05), validation=(0.8, 0.9))
    own = [
        EvaluationSet(
            name, "validation", "own", 9, 45, (ModelScore("base", 0.5, 1.0), ModelScore("tuned", after, 1.0, None))
        )
        for name, after in (("faq", 0.6), ("forum", 0.3))
    ]
    several = replace(found, sets=(*found.sets, *own), chosen_on=("faq", "forum"))
    assert [several.chose(each) for each in several.sets] == [False, False, True, True]
    assert "did not beat the base model" in headline(several).advice
    assert "did not beat" not in headline(replace(several, chosen_on=("faq",))).advice


def test_a_gain_that_cost_the_unrelated_set_is_used_with_a_reserve():
    found = _on(Interval(0.03, 0.02, 0.04))
    lost = (ModelScore("base", 0.7, 0.8), ModelScore("tuned", 0.6, 0.8, Interval(-0.1, -0.12, -0.08)))
    unrelated = EvaluationSet("faq", "forgetting", "human questions", 300, 300, lost)
    said = headline(replace(found, sets=(*found.sets, unrelated))).advice
    assert said.startswith("model/ holds tuned; use it, but not for text like the unrelated set's")


def test_untested_models_are_tested_first_and_a_kept_base_is_said():
    assert "before you use it" in headline(_evaluation(None, role="validation")).advice
    assert headline(_evaluation(None, chosen="base")).advice == "model/ holds the base model, unchanged."


def test_the_page_counts_the_queries_it_takes_as_compare_does():
    measured = Measured(
        "test", "test", None, "nDCG@10", "base", "tuned", 5, 1.0, 0.94, PairedDifference(-0.0613, -0.1839, 0.0, 1.0)
    )
    (conclusion,) = conclude([measured], CompareSettings())
    said = describe_conclusion(conclusion, compared=1, settings=CompareSettings())
    needed = enough_queries(5, FELL)
    assert f"takes about {needed:,}." in said
    assert f"to be sure within 1 point takes about {needed:,}, and here are 5." in " ".join(
        headline(_on(FELL)).details
    )
    many = " ".join(headline(_on(Interval(0.02, -0.1, 0.1), queries=900)).details)
    assert "To be sure within 1 point takes about 360,000 queries." in many


@pytest.mark.parametrize(("queries", "delta"), [(0, FELL), (5, Interval(0, 0, 0)), (9000, Interval(0, -0.004, 0.003))])
def test_nothing_is_asked_for_where_there_is_enough_or_nothing_can_be_said(queries, delta):
    assert enough_queries(queries, delta) is None


@pytest.mark.parametrize(
    ("base", "words"),
    [(1.0, "there is nothing to gain on this set"), (0.995, "next to nothing to gain"), (0.98, None)],
)
def test_a_base_model_at_the_top_leaves_nothing_to_gain(base, words):
    said = " ".join(headline(_on(FELL, base=base)).details)
    assert (words or "to gain on this set") in said if words else "to gain on this set" not in said


def test_few_queries_are_counted_and_not_turned_into_percentages():
    moved = QueryChanges("test", 0, 4, 1, 5, 4, (), ())
    assert (
        "The right document comes first for 4 of 5 queries; before, for 5 of 5."
        in headline(_on(FELL), (moved,)).details
    )


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
