"""Is the difference real? Paired intervals and tests over queries, by scipy.

Two models answer the same queries, so the queries' differences are what is resampled: the interval says how far
the mean difference could be off, the randomisation test how often chance alone would give as large a one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from multigrain.errors import EvaluationError
from multigrain.evaluation.settings import CompareSettings

# Numbers resampled at once; bounds memory at about 32 MB.
_BATCH_NUMBERS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much one model differs from another on one set.

    Attributes:
        mean: mean over queries of other minus base.
        low: lower end of the bootstrap interval of the mean.
        high: upper end.
        p_value: of the two-sided randomisation test, not corrected for the number of sets.
    """

    mean: float
    low: float
    high: float
    p_value: float


def compare_paired(
    base: NDArray[np.float64], other: NDArray[np.float64], settings: CompareSettings
) -> PairedDifference:
    """Compare two models' scores of the same queries.

    Args:
        base: one score a query.
        other: the other model's, in the same order.
        settings: samples (resamples behind the interval, sign flips behind the p-value), confidence and seed.

    Raises:
        EvaluationError: different numbers of queries, or fewer than two.
    """
    if base.shape != other.shape or base.ndim != 1:
        raise EvaluationError(
            f"a paired comparison needs the same queries twice, got {base.shape} and {other.shape} scores; "
            "evaluate both models on the same set"
        )
    if len(base) < 2:
        raise EvaluationError(f"a paired comparison needs at least 2 queries, got {len(base)}; hold out more")
    differences = other - base
    low, high = bootstrap_interval(differences, settings)
    return PairedDifference(float(differences.mean()), low, high, randomisation_p_value(differences, settings))


def bootstrap_interval(differences: NDArray[np.float64], settings: CompareSettings) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; at least two differences."""
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=settings.samples,
        batch=_batch(differences),
        vectorized=True,
        confidence_level=settings.confidence,
        method="percentile",
        rng=np.random.default_rng(settings.seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def randomisation_p_value(differences: NDArray[np.float64], settings: CompareSettings) -> float:
    """Two-sided paired randomisation test: how often random signs give a mean as far from zero.

    Exact where all sign patterns number no more than the samples; at least two differences.
    """
    return float(
        stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            n_resamples=settings.samples,
            batch=_batch(differences),
            vectorized=True,
            rng=np.random.default_rng(settings.seed),
        ).pvalue
    )


def compare_crossed(
    base: NDArray[np.float64], other: NDArray[np.float64], settings: CompareSettings
) -> PairedDifference:
    """Compare two ways of training, each run with several seeds: would it hold for other queries *and* seeds?

    The interval resamples seeds and queries together. The p-value is the larger one of the randomisation test over
    queries, seeds averaged, and of a normal test with the resamples' standard deviation: neither few queries nor a
    lucky seed alone makes a claim. Two or three seeds say little of other seeds; the interval then is too narrow
    rather than too wide.

    Args:
        base: (seeds, queries).
        other: the other's, with the same seeds and queries in the same order.
        settings: see `compare_paired`.

    Raises:
        EvaluationError: different shapes, or fewer than two queries.
    """
    averaged = compare_paired(base.mean(axis=0), other.mean(axis=0), settings)
    if base.shape != other.shape or base.ndim != 2 or len(base) < 2:
        return averaged
    differences = other - base
    seeds, queries = differences.shape
    rng = np.random.default_rng(settings.seed)
    means = []
    for start in range(0, settings.samples, batch := _batch(differences[0])):
        count = min(batch, settings.samples - start)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        of_queries = rng.multinomial(queries, np.full(queries, 1 / queries), size=count) / queries
        means.append(((of_seeds @ differences) * of_queries).sum(axis=1))
    drawn = np.concatenate(means)
    low, high = np.quantile(drawn, [(1 - settings.confidence) / 2, (1 + settings.confidence) / 2])
    deviation = float(drawn.std(ddof=1))
    chance = float(2 * stats.norm.sf(abs(averaged.mean) / deviation)) if deviation > 0 else averaged.p_value
    return PairedDifference(averaged.mean, float(low), float(high), max(averaged.p_value, chance))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the same order.

    Calling significant what stays below alpha keeps the chance of even one false claim below alpha.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.minimum(1.0, np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=np.float64)[order])
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(p_value) for p_value in adjusted]


def _batch(differences: NDArray[np.float64]) -> int:
    return max(1, _BATCH_NUMBERS // len(differences))
