from __future__ import annotations

from dataclasses import replace

import pytest

from multigrain.evaluation.described import describe_conclusion
from multigrain.evaluation.query_changes import QueryChanges
from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import Verdict, conclude
from multigrain.report.headline import headline, needed_queries, tone_of


def difference(mean, low, high, p_value=None):
    """A difference whose p-value agrees with its interval, unless one is given."""
    return PairedDifference(mean, low, high, p_value or (0.001 if low > 0 or high < 0 else 0.3))


def _set(name, role, base, delta, *, provenance="human-written titles", queries=900, documents=2000):
    models = {"base": ModelScores(base), "tuned": ModelScores(base + (delta.mean if delta else 0))}
    return SetResult(name, role, provenance, queries, documents, models, {"tuned": delta} if delta else {})


def _results(*sets, chosen="tuned"):
    return EvaluationResults(chosen, ("base", "tuned"), sets, 10_000, 0.95, 13)


def _evaluation(delta, *, role="test", label="human-written titles", chosen="tuned"):
    return _results(_set("docs", role, 0.708, delta, provenance=label), chosen=chosen)


def test_a_gain_is_claimed_where_the_interval_is_above_zero():
    said = headline(_evaluation(difference(0.033, 0.021, 0.045)))
    assert said.verdict is Verdict.BETTER
    assert said.title == "Tuning raised nDCG@10 from .708 to .741"
    assert said.details[0] == "+3.3 [2.1, 4.5] points (95% interval) on 900 held-out queries: human-written titles."


@pytest.mark.parametrize(
    ("delta", "title"),
    [
        (difference(0.02, 0.0, 0.04), "Perhaps better, not shown: nDCG@10 .708"),
        (difference(0.03, -0.001, 0.06), "Perhaps better, not shown: nDCG@10 .708"),
        (difference(-0.01, -0.02, 0.001), "No gain shown: nDCG@10 .708"),
    ],
)
def test_nothing_is_claimed_where_the_interval_holds_zero(delta, title):
    said = headline(_evaluation(delta))
    assert said.verdict is Verdict.UNDECIDED
    assert said.title.startswith(title)
    assert "chance" in " ".join(said.details)


def test_few_queries_are_called_few_where_they_leave_it_open():
    few, many = _evaluation(difference(0.02, -0.1, 0.1)), _evaluation(difference(0.02, -0.1, 0.1))
    few = replace(few, sets=(replace(few.sets[0], queries=13),))
    assert "So few queries" in " ".join(headline(few).details)
    assert "So few queries" not in " ".join(headline(many).details)


def _on(delta, *, base=0.7, queries=5, validation=None, name="test"):
    """Figures on a test set, and on a validation set where its two scores are given."""
    sets = [_set(name, "test", base, delta, queries=queries)]
    if validation is not None:
        before, after = validation
        sets.insert(0, _set("validation", "validation", before, difference(after - before, 0, 0), queries=2))
    return _results(*sets)


FELL = difference(-0.0613, -0.1839, 0.0, 1.0)


def test_a_fall_whose_interval_ends_at_zero_looks_worse_and_is_not_called_no_change():
    said = headline(_on(FELL, base=1.0, validation=(1.0, 1.0)))
    assert said.badge == "no gain shown; looks worse, too few queries to be sure"
    assert (said.verdict, said.tone) == (Verdict.UNDECIDED, "doubtful")
    assert said.title == "No gain shown: nDCG@10 1.000 before, .939 after"
    assert "what is measured is a loss" in " ".join(said.details)
    for other in (difference(-0.06, -0.18, 0.02), difference(0.0, -0.1, 0.0), difference(0.02, -0.1, 0.1)):
        assert headline(_on(other)).tone == "unclear"
    assert headline(_on(difference(-0.06, -0.18, -0.01))).tone == "worse"


@pytest.mark.parametrize(
    ("delta", "validation", "advice"),
    [
        (difference(0.03, 0.02, 0.04), (0.7, 0.8), "model/ holds tuned; use it."),
        (FELL, (1.0, 1.0), "although it did not beat the base model on the validation queries: keep the base model"),
        (FELL, (0.9, 1.0), "although the test shows no gain: keep the base model until more documents"),
        (FELL, None, "although the test shows no gain: keep the base model until more documents"),
        (difference(0.02, -0.01, 0.05), (0.7, 0.8), "test tuned on more queries before you use it"),
        (difference(0.02, -0.01, 0.05), (0.8, 0.8), "did not beat the base model on the validation queries"),
        (
            difference(-0.03, -0.05, -0.01),
            (0.7, 0.8),
            "although it is worse than the base model on the test queries: keep",
        ),
    ],
)
def test_the_advice_says_what_model_holds_and_what_to_do(delta, validation, advice):
    said = headline(_on(delta, validation=validation)).advice
    assert said.startswith("model/ holds tuned")
    assert advice in said


def test_untested_models_are_tested_first_and_a_kept_base_is_said():
    untested = _evaluation(difference(0.03, 0.02, 0.04), role="validation")
    assert "before you use it" in headline(untested).advice
    assert "did not beat the base model" in headline(_evaluation(None, role="validation")).advice
    assert headline(_evaluation(None, chosen="base")).advice == "model/ holds the base model, unchanged."


def test_the_page_counts_the_queries_it_takes_as_compare_does():
    results = _on(FELL, base=1.0, queries=12)
    (conclusion,) = conclude(results.sets, base="base", confidence=0.95)
    said = describe_conclusion(conclusion, CompareSettings())
    needed = needed_queries(conclusion)
    assert f"takes about {needed:,}" in said
    assert f"to be sure within 1 point takes about {needed:,}, and here are 12." in " ".join(headline(results).details)
    many = " ".join(headline(_on(difference(0.02, -0.1, 0.1), queries=900)).details)
    assert "To be sure within 1 point takes about 360,000 queries." in many
    few = headline(_on(FELL, base=1.0, queries=5)).details
    assert "(95% interval, too few queries (5))" in few[0]
    assert "takes about" not in " ".join(few)


@pytest.mark.parametrize(
    ("queries", "delta"), [(0, FELL), (5, difference(0, 0, 0)), (9000, difference(0, -0.004, 0.003))]
)
def test_nothing_is_asked_for_where_there_is_enough_or_nothing_can_be_said(queries, delta):
    (conclusion,) = conclude(_on(delta, queries=queries).sets, base="base", confidence=0.95)
    assert needed_queries(conclusion) is None


def test_a_clear_interval_that_the_correction_undoes_is_explained():
    gain = _set("docs", "test", 0.7, difference(0.02, 0.001, 0.04, 0.03))
    crowd = [_set(f"s{n}", "test", 0.7, difference(0.0, -0.02, 0.02, 0.9)) for n in range(3)]
    assert headline(_results(gain)).badge == "measured gain"
    said = headline(_results(gain, *crowd))
    assert (said.verdict, said.badge) == (Verdict.UNDECIDED, "perhaps better, not shown")
    assert "stays clear of zero, but it is one of 4 differences" in " ".join(said.details)
    assert "p = 0.12" in " ".join(said.details)


def test_a_difference_too_small_to_matter_is_called_that():
    said = headline(_on(difference(0.001, -0.002, 0.004), queries=900))
    assert (said.verdict, said.tone) == (Verdict.EQUAL, "unclear")
    assert said.badge == "no difference that matters"


@pytest.mark.parametrize(
    ("base", "words"),
    [(1.0, "there is nothing to gain on this set"), (0.995, "next to nothing to gain"), (0.98, None)],
)
def test_a_base_model_at_the_top_leaves_nothing_to_gain(base, words):
    said = " ".join(headline(_on(FELL, base=base)).details)
    assert (words or "to gain on this set") in said if words else "to gain on this set" not in said


def test_few_queries_are_counted_and_not_turned_into_percentages():
    moved = QueryChanges("test", 0, 4, 1, 5, 4)
    assert (
        "The right document comes first for 4 of 5 queries; before, for 5 of 5."
        in headline(_on(FELL), (moved,)).details
    )


def test_a_loss_is_called_one():
    said = headline(_evaluation(difference(-0.018, -0.03, -0.006)))
    assert said.verdict is Verdict.WORSE
    assert said.title == "The tuned model is worse: nDCG@10 fell from .708 to .690"


def test_synthetic_queries_are_called_an_estimate():
    delta = difference(0.033, 0.021, 0.045)
    assert "estimate" in " ".join(headline(_evaluation(delta, label="synthetic estimate")).details)
    assert "estimate" not in " ".join(headline(_evaluation(delta)).details)


def test_validation_alone_proves_nothing():
    said = headline(_evaluation(difference(0.033, 0.021, 0.045), role="validation"))
    assert (said.verdict, said.tone) == (None, "unclear")
    assert "not tested" in said.title
    assert ".741" not in said.title


def test_keeping_the_base_model_is_said():
    said = headline(_evaluation(None, chosen="base"))
    assert (said.verdict, said.tone) == (None, "unclear")
    assert "base model stays" in said.title


def test_a_missing_comparison_claims_nothing():
    assert headline(_evaluation(None)).badge == "not compared"


def test_the_share_of_right_answers_in_first_place_comes_from_the_queries():
    moved = QueryChanges("docs", 300, 500, 100, 520, 567)
    details = headline(_evaluation(difference(0.033, 0.021, 0.045)), (moved,)).details
    assert "The right document comes first for 63% of them; before, for 58%." in details


def test_a_validation_set_has_no_tone_of_its_own():
    assert tone_of(None) == "unclear"
    (conclusion,) = conclude(_evaluation(difference(0.03, 0.02, 0.04)).sets, base="base", confidence=0.95)
    assert tone_of(conclusion) == "better"
