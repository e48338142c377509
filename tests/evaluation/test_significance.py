from __future__ import annotations

import itertools

import numpy as np
import pytest
from benchmarks.interval_coverage import draw, true_mean
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from multigrain.errors import EvaluationError
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired, holm, mean_interval, randomisation_p_value


def test_the_interval_of_independent_queries_is_the_paired_one_of_scipy() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.random(40), rng.random(40)
    expected = stats.ttest_rel(other, base).confidence_interval(0.9)
    found = compare_paired(base, other, CompareSettings(samples=200, confidence=0.9))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.sampled_from("abcdefg")), min_size=2, max_size=30).filter(
        lambda pairs: len({cluster for _, cluster in pairs}) > 1
    )
)
def test_the_order_of_queries_and_the_names_of_clusters_are_nothing_to_an_interval(
    pairs: list[tuple[float, str]],
) -> None:
    def interval(given: list[tuple[float, str]]) -> tuple[float, float]:
        return mean_interval(np.array([value for value, _ in given]), CompareSettings(), [name for _, name in given])

    low, high = interval(pairs)
    assert low - 1e-12 <= np.mean([value for value, _ in pairs]) <= high + 1e-12
    assert interval(pairs[::-1]) == pytest.approx((low, high), abs=1e-9)
    assert interval([(value, name.upper()) for value, name in pairs]) == pytest.approx((low, high), abs=1e-9)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, 1.0]), st.floats(0, 1), st.sampled_from("abcde")), min_size=2, max_size=20
    ).filter(lambda rows: len({cluster for *_, cluster in rows}) > 1)
)
def test_no_interval_reaches_beyond_what_a_difference_of_scores_can_be(rows: list[tuple[float, float, str]]) -> None:
    base, other = (np.array([row[place] for row in rows]) for place in (0, 1))
    clusters = [cluster for *_, cluster in rows]
    settings = CompareSettings(samples=20)
    found = compare_paired(base, other, settings, clusters)
    low, high = mean_interval(other - base, settings, clusters)
    assert (found.low, found.high) == (max(low, -1), min(high, 1))
    assert -1 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1


def test_a_query_asked_again_tells_nothing_new() -> None:
    values = np.random.default_rng(1).normal(0.05, 0.2, 40)
    names = [str(number) for number in range(40)]
    settings = CompareSettings(samples=2_000)
    once, again = np.array(values), np.repeat(values, 5)
    assert mean_interval(again, settings, names * 5) != mean_interval(once, settings), "clusters as they stand"
    of_each = [name for name in names for _ in range(5)]
    assert mean_interval(again, settings, of_each) == pytest.approx(mean_interval(once, settings))
    assert randomisation_p_value(again, settings, of_each) == randomisation_p_value(once, settings)
    assert randomisation_p_value(again, settings) < randomisation_p_value(once, settings)


@pytest.mark.parametrize("clusters", [["one"] * 6, ["a", "b"]])
def test_clusters_that_cannot_vary_are_refused(clusters: list[str]) -> None:
    with pytest.raises(EvaluationError, match=r"one cluster|with 2 clusters"):
        mean_interval(np.linspace(0, 1, 6), CompareSettings(), clusters)


def test_the_p_value_of_few_queries_is_exact() -> None:
    differences = np.array([0.3, 0.1, -0.05, 0.2, 0.15, 0.4])
    signs = np.array(list(itertools.product([1, -1], repeat=6)))
    means = np.abs((signs * differences).mean(axis=1))
    expected = np.mean(means >= abs(differences.mean()) - 1e-12)
    assert randomisation_p_value(differences, CompareSettings(seed=0)) == pytest.approx(expected)


def test_the_p_value_of_many_queries_is_that_of_random_signs() -> None:
    differences = np.random.default_rng(2).normal(0.02, 0.2, size=400)
    signs = np.random.default_rng(3).choice([-1, 1], size=(20_000, 400))
    expected = np.mean(np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()))
    assert randomisation_p_value(differences, CompareSettings(samples=20_000, seed=4)) == pytest.approx(
        expected, abs=0.01
    )


@pytest.mark.parametrize("ties", [None, 0.5, 0.7])
@pytest.mark.parametrize("per_cluster", [1, 3])
def test_intervals_cover_the_truth_as_often_as_they_say(ties: float | None, per_cluster: int) -> None:
    """Of 30 queries. `benchmarks.interval_coverage` measures it more closely, and for more of them."""
    rng, settings = np.random.default_rng(6), CompareSettings()
    trials = (draw(rng, 30, ties, per_cluster) for _ in range(600))
    intervals = [mean_interval(differences, settings, clusters) for differences, clusters in trials]
    covered = np.mean([low <= true_mean(ties) <= high for low, high in intervals])
    assert 0.92 <= covered <= 0.975


def test_no_difference_is_no_difference() -> None:
    scores = np.linspace(0, 1, 50)
    found = compare_paired(scores, scores, CompareSettings(samples=200, seed=1))
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_seed_decides_and_swapping_models_mirrors() -> None:
    rng = np.random.default_rng(7)
    base, other = rng.random(60), rng.random(60)
    one = compare_paired(base, other, CompareSettings(samples=500, seed=1))
    assert one == compare_paired(base, other, CompareSettings(samples=500, seed=1))
    mirrored = compare_paired(other, base, CompareSettings(samples=500, seed=1))
    assert mirrored.mean == pytest.approx(-one.mean)
    assert mirrored.low == pytest.approx(-one.high, abs=0.02)


@pytest.mark.parametrize("sizes", [(3, 4), (1, 1), (0, 0)])
def test_what_cannot_be_compared_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(EvaluationError, match="paired comparison needs"):
        compare_paired(np.zeros(sizes[0]), np.zeros(sizes[1]), CompareSettings(seed=0))


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_helps_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert len(adjusted) == len(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    ordered = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert all(one <= two for one, two in itertools.pairwise(ordered))
