from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.report.summaries import evenly_spaced, summarise_similarity


@given(st.integers(0, 500), st.integers(1, 20))
def test_evenly_spaced_items_are_distinct_and_from_everywhere(count, limit):
    picked = evenly_spaced(count, limit)
    assert picked == sorted(set(picked))
    assert len(picked) == min(count, limit)
    assert all(0 <= index < count for index in picked)
    if count >= 4 * limit >= 8:
        assert picked[0] < count / limit
        assert picked[-1] >= count - count / limit


def test_bands_describe_the_similarities_they_were_made_from():
    random = np.random.default_rng(0)
    positive = random.normal(0.7, 0.05, 500).astype(np.float32)
    levels = (np.array([0.1, 0.3, 0.4, 0.5]) + random.normal(0, 0.05, (500, 4))).astype(np.float32)
    written = np.zeros((500, 4), dtype=bool)
    written[:50, 3] = True
    summary = summarise_similarity(positive, levels, written)
    assert [band.level for band in summary.bands] == [0, 1, 2, 3, 4]
    assert [band.written for band in summary.bands] == [0, 0, 0, 0, 50]
    assert summary.low <= min(positive.min(), levels.min())
    assert summary.high >= max(positive.max(), levels.max())
    assert summary.positive_first == pytest.approx((positive > levels.max(axis=1)).mean())
    width = (summary.high - summary.low) / len(summary.bands[0].density)
    for band, values in zip(summary.bands, [positive, *levels.T], strict=True):
        assert band.p10 < band.p50 < band.p90
        assert band.p50 == pytest.approx(np.median(values))
        assert max(band.density) == pytest.approx(1.0)
        fullest = summary.low + width * (np.argmax(band.density) + 0.5)
        assert abs(fullest - band.p50) < 0.08


def test_one_row_of_equal_similarities_still_has_a_shape():
    summary = summarise_similarity(
        np.full(1, 0.5, np.float32), np.full((1, 4), 0.5, np.float32), np.zeros((1, 4), dtype=bool)
    )
    assert summary.low < summary.high
    assert np.isfinite(summary.bands[0].density).all()


def test_no_rows_have_no_summary():
    assert summarise_similarity(np.empty(0, np.float32), np.empty((0, 4), np.float32), np.empty((0, 4), bool)) is None
