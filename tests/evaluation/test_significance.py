from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.errors import EvaluationError
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import bootstrap_interval, compare_paired, holm, randomisation_p_value


def test_the_interval_is_that_of_resampled_queries() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.2, size=300)
    rng = np.random.default_rng(1)
    means = differences[rng.integers(0, 300, size=(20_000, 300))].mean(axis=1)
    low, high = bootstrap_interval(differences, CompareSettings(samples=20_000, seed=5))
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.001)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.001)


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


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for trial in range(100):
        low, high = bootstrap_interval(rng.normal(0.1, 0.3, size=80), CompareSettings(samples=500, seed=trial))
        covered += low <= 0.1 <= high
    assert 85 <= covered <= 100


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
