from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.evaluation.enough import needed_words
from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import (
    ForgettingVerdict,
    Verdict,
    conclude,
    conclusions_of,
    decide,
    judge_forgetting,
    left_to_gain,
    recommendation,
)


def set_result(low: float, high: float, p_value: float = 0.001, *, role: str = "test", name: str = "t") -> SetResult:
    mean = (low + high) / 2
    scores = {"base": ModelScores(0.5), "tuned": ModelScores(0.5 + mean)}
    return SetResult(name, role, "people", 300, 900, scores, {"tuned": PairedDifference(mean, low, high, p_value)})


def results(*sets: SetResult, beat_base: bool | None = None) -> EvaluationResults:
    validation = [] if beat_base is None else [set_result(0.01 * beat_base, 0.01 * beat_base, role="validation")]
    return EvaluationResults("tuned", ("base", "tuned"), (*sets, *validation), 1000, 0.95, 1)


@pytest.mark.parametrize(
    ("low", "high", "p_value", "verdict"),
    [
        (0.01, 0.03, 0.01, Verdict.BETTER),
        (-0.03, -0.01, 0.01, Verdict.WORSE),
        (0.01, 0.03, 0.06, Verdict.UNDECIDED),  # the interval alone claims nothing
        (-0.01, 0.03, 0.01, Verdict.UNDECIDED),  # nor does the test alone
        (0.0, 0.03, 0.01, Verdict.UNDECIDED),
        (-0.009, 0.01, 0.6, Verdict.EQUAL),
        (0.001, 0.009, 0.2, Verdict.EQUAL),
        (0.001, 0.009, 0.01, Verdict.BETTER),
    ],
)
def test_a_claim_takes_both_the_interval_and_the_test(
    low: float, high: float, p_value: float, verdict: Verdict
) -> None:
    (conclusion,) = conclude([set_result(low, high, p_value)], base="base", confidence=0.95)
    assert conclusion.verdict is verdict


@pytest.mark.parametrize(("queries", "clusters"), [(7, 7), (99, None), (400, 50)])
def test_equal_scores_of_a_few_queries_are_no_sign_of_equal_models(queries: int, clusters: int | None) -> None:
    few = replace(set_result(0.0, 0.0, 1.0), queries=queries, clusters=clusters)
    (conclusion,) = conclude([few], base="base", confidence=0.95)
    assert conclusion.verdict is Verdict.UNDECIDED
    assert conclusion.queries_needed == pytest.approx(100 * queries / (clusters or queries), abs=1)
    enough = replace(few, queries=conclusion.queries_needed, clusters=100)
    assert conclude([enough], base="base", confidence=0.95)[0].verdict is Verdict.EQUAL


@pytest.mark.parametrize(
    ("low", "high", "clusters", "said"),
    [
        (-0.003, 0.003, 5, "the interval is within 1 point, but 5 clusters of queries are too few to say that nothing "
         "differs: that takes 100, about 6,000 queries"),
        (-0.003, 0.003, 300, ""),
        (-1.0, 1.0, 5, "too few clusters (5) to say how many it would take: test on queries about more documents"),
        (-0.166, 0.07, 300, "to be sure within 1 point takes about 170,000, to show a loss of 4.8 points, if it is "
         "real, about 3,700"),
        (-0.07, 0.166, 300, "to be sure within 1 point takes about 170,000, to show a gain of 4.8 points, if it is "
         "real, about 3,700"),
        (-0.05, 0.05, 300, "to be sure within 1 point takes about 30,000"),
    ],
)  # fmt: skip
def test_what_it_takes_to_tell_names_what_is_missing(low: float, high: float, clusters: int, said: str) -> None:
    (conclusion,) = conclude([replace(set_result(low, high, 0.5), clusters=clusters)], base="base", confidence=0.95)
    assert needed_words(conclusion) == said


@pytest.mark.parametrize(
    ("low", "high", "queries", "clusters", "said"),
    [
        (-0.9, 0.8, 17, 5, "too few clusters (5)"),
        (-0.9, 0.8, 4, 4, "too few queries (4)"),
        (0.0, 0.0, 4, None, "too few queries (4)"),
        (-0.9, 0.8, 17, 10, ""),
        (0.01, 0.02, 17, 7, ""),  # it may be claimed
        (-0.9, 0.8, 0, None, ""),
    ],
)
def test_an_interval_from_few_clusters_is_told(
    low: float, high: float, queries: int, clusters: int | None, said: str
) -> None:
    result = replace(set_result(low, high), queries=queries, clusters=clusters)
    assert result.few_words(result.delta["tuned"]) == said
    assert result.few_words(None) == ""


def test_the_family_is_every_difference_that_is_no_validation_set() -> None:
    gain = set_result(0.01, 0.03, 0.02)
    others = [set_result(-0.1, 0.1, 0.9, name=name) for name in ("a", "b")]
    chose = [set_result(-0.1, 0.1, 0.9, role="validation", name=name) for name in ("c", "d")]
    (alone, *_) = conclude([gain, *chose], base="base", confidence=0.95)
    (crowded, *rest) = conclude([gain, *others], base="base", confidence=0.95)
    assert (alone.compared, alone.verdict) == (1, Verdict.BETTER)
    assert (crowded.compared, crowded.verdict) == (3, Verdict.UNDECIDED)
    assert crowded.adjusted_p == pytest.approx(0.06)
    assert crowded.is_undone_by_correction
    assert not any(each.is_undone_by_correction for each in rest)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted), max_size=6),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
)
def test_what_is_claimed_contradicts_neither_its_interval_nor_its_p_value(
    intervals: list[list[float]], p_values: list[float]
) -> None:
    sets = [
        set_result(low, high, p_value, name=f"s{place}")
        for place, ((low, high), p_value) in enumerate(zip(intervals, p_values, strict=False))
    ]
    for conclusion in conclude(sets, base="base", confidence=0.95):
        clear = conclusion.difference.low > 0 or conclusion.difference.high < 0
        assert conclusion.is_claimed == (clear and conclusion.adjusted_p < 0.05)
        assert conclusion.adjusted_p >= conclusion.difference.p_value
        assert (conclusion.queries_needed is not None) == (conclusion.verdict is Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("tests", "beat_base", "decision"),
    [
        ([(0.01, 0.03)], True, "use"),
        ([(0.01, 0.03)], False, "use"),
        ([(0.01, 0.03), (-0.03, -0.01)], True, "worse"),
        ([(0.01, 0.03), (-0.02, 0.01)], True, "use"),
        ([(-0.01, 0.03)], True, "not shown"),
        ([(-0.01, 0.03)], None, "not shown"),
        ([(-0.01, 0.03)], False, "no better on validation"),
        ([(-0.03, 0.01)], True, "no gain"),
        ([(-0.005, 0.009)], True, "no gain"),
        ([(-0.005, 0.009), (-0.01, 0.03)], True, "not shown"),
        ([(0.0, 0.0)], None, "no gain"),
        ([], True, "untested"),
        ([], False, "no better on validation"),
    ],
)
def test_the_test_queries_go_before_the_validation_queries(
    tests: list[tuple[float, float]], beat_base: bool | None, decision: str
) -> None:
    sets = [set_result(*each, name=f"t{place}") for place, each in enumerate(tests)]
    found = results(*sets, beat_base=beat_base)
    assert decide(found, conclusions_of(found)) == decision


def test_where_a_rival_is_to_be_taken_nobody_is_sent_for_more_queries() -> None:
    for interval in ((-0.01, 0.03), (-0.005, 0.009), (-0.05, -0.01)):
        found = results(set_result(*interval))
        _, said = recommendation(found, conclusions_of(found), rival="bm25")
        assert "take bm25" in said
        assert "more queries" not in said
        assert "keep the base model" not in said


def test_a_gain_that_cost_the_unrelated_set_is_used_with_a_reserve() -> None:
    gain, lost = set_result(0.02, 0.04), set_result(-0.12, -0.08, role="forgetting", name="faq")
    for found, words in ((results(gain), "; use it"), (results(gain, lost), "; use it, but not for text like")):
        decision, said = recommendation(found, conclusions_of(found))
        assert decision == "use"
        assert said.startswith(words)
    assert "but" not in recommendation(results(gain), conclusions_of(results(gain)))[1]


def test_an_interval_below_zero_is_never_passed_over_though_the_correction_forbids_the_claim() -> None:
    gain, fall = set_result(0.02, 0.04), set_result(-0.05, -0.01, 0.06, name="manuals")
    beside = results(gain, fall)
    decision, advice = recommendation(beside, conclusions_of(beside))
    assert decision == "use"
    assert advice == "; use it, but not for text like that of manuals, where the whole interval lies below zero"
    for other in ([], [set_result(-0.01, 0.05, 0.3)], [set_result(-0.03, 0.02, 0.4)]):
        alone = results(set_result(-0.05, -0.01, 0.06, name="manuals"), *other)
        decision, advice = recommendation(alone, conclusions_of(alone))
        assert decision == "looks worse"
        assert "keep the base model" in advice


def test_only_the_sets_that_chose_say_whether_the_base_was_beaten_and_their_mean_counts() -> None:
    own = [
        set_result(gain, gain, role="validation", name=name)
        for name, gain in (("validation", 0.1), ("faq", 0.1), ("forum", -0.2))
    ]
    for chosen_on, beat_base in (((), False), (("faq", "forum"), False), (("faq",), True), (("test",), None)):
        found = EvaluationResults("tuned", ("base", "tuned"), tuple(own), 10, 0.95, 1, chosen_on=chosen_on)
        assert found.beat_base() is (False if chosen_on == () else beat_base)
        assert [found.selected_on(each) for each in own] == [not chosen_on or each.name in chosen_on for each in own]


def test_what_is_left_to_gain() -> None:
    assert [left_to_gain(base) for base in (0.5, 0.99, 0.991, 0.9996, 1.0)] == [
        "something",
        "something",
        "next to nothing",
        "nothing",
        "nothing",
    ]


def unrelated(change: float, low: float | None = None, high: float | None = None) -> SetResult:
    delta = {} if low is None or high is None else {"tuned": PairedDifference(change, low, high, 0.5)}
    scores = {"base": ModelScores(0.8), "tuned": ModelScores(0.8 + change)}
    return SetResult("unrelated", "forgetting", "people", 100, 200, scores, delta)


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (unrelated(0.02, 0.01, 0.03), "kept"),
        (unrelated(-0.005, -0.009, -0.001), "kept"),  # surely worse, and by less than what matters
        (unrelated(-0.02, -0.03, -0.012), "forgot"),
        (unrelated(-0.02, -0.05, 0.01), "unclear"),
        (unrelated(-0.008, -0.02, -0.004), "unclear"),
        (unrelated(0.0, -0.02, 0.02), "unclear"),  # "no significant loss" is no proof of none
        (unrelated(-0.002), "kept"),  # one number: nothing to resample
        (unrelated(-0.02), "forgot"),
    ],
)
def test_a_loss_is_judged_against_the_threshold(result: SetResult, verdict: str) -> None:
    (judged,) = judge_forgetting(results(result))
    assert judged.verdict == verdict
    assert judged.sentence.startswith(f"unrelated: {judged.words}")
    assert f"{100 * judged.change:+.1f} points" in judged.sentence


def test_only_forgetting_sets_are_judged_and_the_threshold_decides() -> None:
    sets = [unrelated(-0.02, -0.03, -0.012), set_result(-0.03, -0.012)]
    lenient = replace(results(*sets), forgetting_threshold=0.05)
    (judged,) = judge_forgetting(lenient, ["base", "tuned", "unknown"])
    assert judged.verdict is ForgettingVerdict.KEPT
    assert "5 points" in judged.sentence
