"""The sample that similarity curves ask, what they measure, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.graded import examples

from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats, Role
from multigrain.mining.rules import scale_bands
from multigrain.training.curves import SimilarityMeter, SimilaritySample, sample_of_rows, sample_size


@given(st.integers(1, 5000), st.integers(2, 4096))
def test_the_sample_costs_a_fortieth_of_the_training_or_is_the_smallest(steps: int, batch_size: int) -> None:
    rows, every = sample_size(steps, batch_size)
    points = -(-steps // every)

    assert 10 <= rows <= 64
    assert points <= 16
    read = rows * 2.5 * (points + 2)  # before the first step, and of the model that is saved
    assert read <= 0.025 * steps * batch_size * 9 or (rows, points <= 4) == (10, True)


def test_a_sample_of_rows_has_their_own_levels_and_the_seed_decides_it() -> None:
    rows = examples()
    sample = sample_of_rows(rows, 8, seed=3)

    assert sample is not None
    assert sample == sample_of_rows(rows, 8, seed=3)
    assert sample != sample_of_rows(rows, 8, seed=4)
    assert len(sample.queries) == 8
    by_query = {row.query: row for row in rows}
    assert sample.levels is not None
    for query, positive, levels in zip(sample.queries, sample.positives, sample.levels, strict=True):
        row = by_query[query]
        assert sample.documents[positive] == row.positive
        assert [[sample.documents[place] for place in places] for places in levels] == [
            [negative.text] for negative in row.negatives
        ]
    assert sample_of_rows([], 8, seed=3) is None


def _on_a_circle(degrees: dict[str, float]) -> SimilaritySample:
    documents = tuple(name for name in degrees if name != "q")
    return SimilaritySample(
        source="made up",
        held_out=True,
        queries=("q",),
        documents=documents,
        positives=(0,),
        relevant=(frozenset([0]),),
        bands=scale_bands(AuditConfig().bands, len(documents) - 1),
    )


def test_levels_are_bands_of_the_base_s_ranks_and_stay_what_they_are() -> None:
    angles = {"q": 0.0, "p": 30.0, **{f"d{number}": 35.0 + 5 * number for number in range(12)}}

    def embed(texts: Sequence[str], role: Role) -> Floats:
        turned = np.deg2rad([angles[text] for text in texts])
        return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)

    meter = SimilarityMeter(_on_a_circle(angles), embed)
    before = meter.before()
    assert before.positive == pytest.approx(np.cos(np.deg2rad(30)), abs=1e-5)
    similarities = [level for level in before.levels if level is not None]
    assert similarities == sorted(similarities)
    assert before.levels[3] == pytest.approx(np.cos(np.deg2rad(35)), abs=1e-5)  # the nearest is of level 4
    assert (before.first, before.moved) == (1.0, 0.0)

    angles["d0"], angles["d11"] = 90.0, 5.0  # the hardest goes away; the easiest is nearer than the positive now
    after = meter.point(7)
    assert after.step == 7
    assert after.levels[3] == pytest.approx(0.0, abs=1e-5)
    assert after.first == 0.0
    assert after.moved > 0
    assert after.margins[3] == pytest.approx(after.positive, abs=1e-5)


def test_vectors_that_are_no_numbers_are_similar_to_nothing() -> None:
    angles = {"q": 0.0, "p": 30.0, **{f"d{number}": 40.0 + number for number in range(6)}}
    meter = SimilarityMeter(_on_a_circle(angles), lambda texts, role: np.full((len(texts), 2), np.nan, np.float32))

    assert (meter.point(1).positive, meter.point(1).first) == (0.0, 0.0)
