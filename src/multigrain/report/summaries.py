"""What the report computes from a run's tables: how similarities are distributed, and which items stand for many."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from multigrain.records import LEVELS
from multigrain.report.data import Similarity, SimilarityBand

_BINS = 72
_SMOOTHING = 1.6  # bins; wide enough to hide the binning, narrow enough to keep two humps apart


def spread(count: int, wanted: int) -> list[int]:
    """Indices of `wanted` items evenly spread over `count`, or of all where there are fewer."""
    if wanted >= count:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def summarise_similarity(
    positive: NDArray[np.float32], levels: NDArray[np.float32], written: NDArray[np.bool_]
) -> Similarity | None:
    """Distribution of the measured similarities of positives and of each level.

    Args:
        positive: (rows,) cosine of query and positive.
        levels: (rows, 4) cosine of query and negative, level 1 first.
        written: (rows, 4) whether a language model wrote the negative.

    Returns:
        None where there are no rows.
    """
    if not len(positive):
        return None
    everything = np.concatenate([positive, levels.ravel()])
    low = math.floor(float(everything.min()) * 10) / 10
    high = max(math.ceil(float(everything.max()) * 10) / 10, low + 0.1)
    bands = [_band(0, positive, 0, low, high)]
    for column, level in enumerate(LEVELS):
        bands.append(_band(int(level), levels[:, column], int(written[:, column].sum()), low, high))
    return Similarity(
        low=low,
        high=high,
        bands=tuple(bands),
        positive_first=float((positive > levels.max(axis=1)).mean()),
    )


def _band(level: int, values: NDArray[np.float32], written: int, low: float, high: float) -> SimilarityBand:
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    offsets = np.arange(-math.ceil(3 * _SMOOTHING), math.ceil(3 * _SMOOTHING) + 1)
    kernel = np.exp(-0.5 * (offsets / _SMOOTHING) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    p10, p50, p90 = (float(each) for each in np.percentile(values, [10, 50, 90]))
    return SimilarityBand(
        level=level,
        count=len(values),
        written=written,
        p10=p10,
        p50=p50,
        p90=p90,
        density=tuple(float(each) for each in smooth / smooth.max()),
    )
