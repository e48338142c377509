"""Seeds and queries resampled together."""

from __future__ import annotations

import numpy as np
import pytest

from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_crossed, compare_paired


def runs(gain: float, between_seeds: float, seeds: int = 5, queries: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    base = rng.uniform(0.3, 0.7, (seeds, queries))
    luck = rng.normal(0, between_seeds, (seeds, 1))
    return base, base + gain + (luck - luck.mean()) + rng.normal(0, 0.05, (seeds, queries))


def test_one_seed_is_a_paired_comparison() -> None:
    base, other = runs(0.02, 0.0, seeds=1)
    settings = CompareSettings(samples=500, seed=1)
    assert compare_crossed(base, other, settings) == compare_paired(base[0], other[0], settings)


def test_seeds_that_disagree_widen_the_interval_and_take_the_claim_back() -> None:
    steady = compare_crossed(*runs(0.02, 0.0), CompareSettings(samples=2_000, seed=1))
    shaky = compare_crossed(*runs(0.02, 0.1), CompareSettings(samples=2_000, seed=1))
    queries_alone = compare_paired(
        *(each.mean(axis=0) for each in runs(0.02, 0.1)), CompareSettings(samples=2_000, seed=1)
    )
    assert steady.low > 0
    assert steady.p_value < 0.01
    assert shaky.low < 0 < shaky.high
    assert shaky.p_value > 0.05
    assert queries_alone.p_value < 0.01, "the seeds' luck does not show where they are averaged first"
    assert shaky.mean == pytest.approx(queries_alone.mean)


def test_a_model_compared_with_itself_differs_by_nothing() -> None:
    base, _ = runs(0.0, 0.0)
    found = compare_crossed(base, base.copy(), CompareSettings(samples=300, seed=1))
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_seeds_of_queries_that_share_documents_are_compared_by_clusters() -> None:
    base, other = runs(0.02, 0.0, queries=60)
    settings = CompareSettings(samples=2_000, seed=1)
    clusters = [str(query) for query in range(60) for _ in range(4)]
    alone = compare_crossed(base, other, settings)
    repeated = compare_crossed(base.repeat(4, axis=1), other.repeat(4, axis=1), settings, clusters)
    assert repeated.mean == pytest.approx(alone.mean)
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high), abs=0.002)
