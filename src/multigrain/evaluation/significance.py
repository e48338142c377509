"""Is the difference real? Paired intervals and tests over queries, by scipy; the one place for both.

Two models answer the same queries, so what counts are the queries' differences: the interval says how far their mean
could be off, the randomisation test how often chance alone would give as large a one.

Queries that share a document, or a person who asked them, win and lose together: they are a cluster, and tell less
than as many queries that have nothing to do with each other. So whole clusters are what varies, in both:

- The interval is Student's, from the clusters' sums (the cluster-robust standard error of a mean; a query that shares
  nothing is a cluster of its own, which makes it the ordinary paired one). Its degrees of freedom are those of the
  *effective* number of clusters, the queries' number squared over the sum of squared sizes: fewer where one cluster is
  large. Percentile, BCa and studentised bootstraps were tried first: with 30 queries, scipy's BCa over clusters covers
  84 to 93% where this covers 94 to 96%, and a percentile bootstrap over clustered queries 75 to 80%
  (`python -m benchmarks.interval_coverage`).
- The test gives a random sign to each cluster.

Where hardly any query differs (fewer than about ten clusters), no interval from these queries alone is wide enough;
then the test claims nothing either. Of few clusters an interval may also be wider than any difference can be: a
difference of scores, which are 0 to 1, is cut to what is possible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from multigrain.errors import EvaluationError
from multigrain.evaluation.settings import CompareSettings

ENOUGH_CLUSTERS: Final = 10
"""Clusters, or queries that each stand for itself, below which an interval can't be relied on."""

# Numbers resampled at once; bounds memory at about 32 MB.
_BATCH_NUMBERS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much one model differs from another on one set.

    Attributes:
        mean: mean over queries of other minus base.
        low: lower end of the interval of the mean.
        high: upper end.
        p_value: of the two-sided randomisation test, not corrected for the number of sets.
    """

    mean: float
    low: float
    high: float
    p_value: float


def compare_paired(
    base: NDArray[np.float64],
    other: NDArray[np.float64],
    settings: CompareSettings,
    clusters: Sequence[str] | None = None,
) -> PairedDifference:
    """Compare two models' scores of the same queries.

    Args:
        base: one score a query, 0 to 1.
        other: the other model's, in the same order.
        settings: samples (sign flips behind the p-value), confidence and seed.
        clusters: of each query the cluster; None where every query stands for itself.

    Raises:
        EvaluationError: different numbers of queries, or fewer than two queries or clusters.
    """
    if base.shape != other.shape or base.ndim != 1:
        raise EvaluationError(
            f"a paired comparison needs the same queries twice, got {base.shape} and {other.shape} scores; "
            "evaluate both models on the same set"
        )
    if len(base) < 2:
        raise EvaluationError(f"a paired comparison needs at least 2 queries, got {len(base)}; hold out more")
    differences = other - base
    low, high = difference_interval(differences, settings, clusters)
    p_value = randomisation_p_value(differences, settings, clusters)
    return PairedDifference(float(differences.mean()), low, high, p_value)


def difference_interval(
    differences: NDArray[np.float64], settings: CompareSettings, clusters: Sequence[str] | None = None
) -> tuple[float, float]:
    """Interval of the mean difference of scores that are 0 to 1: cut to what it can be, from -1 to 1.

    Args:
        differences: at least two; each -1 to 1.
        settings: of which the confidence counts.
        clusters: of each the cluster; None where every one stands for itself.

    Raises:
        EvaluationError: fewer than two clusters.
    """
    low, high = mean_interval(differences, settings, clusters)
    return max(low, -1.0), min(high, 1.0)


def mean_interval(
    values: NDArray[np.float64], settings: CompareSettings, clusters: Sequence[str] | None = None
) -> tuple[float, float]:
    """Interval of the mean of values that come in clusters; see the module.

    Args:
        values: at least two.
        settings: of which the confidence counts.
        clusters: of each value the cluster; None where every value stands for itself.

    Raises:
        EvaluationError: fewer than two clusters.
    """
    sums, sizes = _cluster_sums(values, clusters)
    mean, count = float(values.mean()), len(values)
    error = sums - mean * sizes
    scale = math.sqrt(len(sums) / (len(sums) - 1) * float(error @ error)) / count
    if scale == 0:
        return mean, mean
    low, high = stats.t.interval(settings.confidence, effective_clusters(sizes) - 1, loc=mean, scale=scale)
    return float(low), float(high)


def effective_clusters(sizes: NDArray[np.float64]) -> float:
    """How many clusters of one size would tell as much: from just above 1 up to their number (Kish's effective size).

    Args:
        sizes: how many queries each cluster has; at least two.
    """
    effective = float(sizes.sum() ** 2 / (sizes @ sizes))
    return max(effective, 1.5)  # one huge cluster and a few single queries: as wide as an interval gets


def randomisation_p_value(
    differences: NDArray[np.float64], settings: CompareSettings, clusters: Sequence[str] | None = None
) -> float:
    """Two-sided paired randomisation test: how often random signs, one a cluster, give a mean as far from zero.

    Exact where all sign patterns number no more than the samples; at least two differences.

    Raises:
        EvaluationError: fewer than two clusters.
    """
    sums, _ = _cluster_sums(differences, clusters)
    return float(
        stats.permutation_test(
            (sums,),
            np.mean,
            permutation_type="samples",
            n_resamples=settings.samples,
            batch=_batch(sums),
            vectorized=True,
            rng=np.random.default_rng(settings.seed),
        ).pvalue
    )


def _cluster_sums(
    values: NDArray[np.float64], clusters: Sequence[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum of each cluster's values, and how many they are; clusters in the order in which they come first."""
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise EvaluationError(f"{len(values)} queries with {len(clusters)} clusters; give one for each query")
    numbers = _numbers(clusters)
    sizes = np.bincount(numbers).astype(np.float64)
    if len(sizes) < 2:
        raise EvaluationError(
            f"all {len(values)} queries are one cluster ({clusters[0]!r}): nothing can be said of others; "
            "ask about more documents or people, or cluster by something else"
        )
    return np.bincount(numbers, weights=values).astype(np.float64), sizes


def _numbers(clusters: Sequence[str]) -> NDArray[np.int64]:
    order = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([order[cluster] for cluster in clusters], dtype=np.int64)


def compare_crossed(
    base: NDArray[np.float64],
    other: NDArray[np.float64],
    settings: CompareSettings,
    clusters: Sequence[str] | None = None,
) -> PairedDifference:
    """Compare two ways of training, each run with several seeds: would it hold for other queries *and* seeds?

    The interval resamples seeds and clusters of queries together, and is never narrower than that over queries alone.
    The p-value is the larger one of the randomisation test over queries, seeds averaged, and of a normal test with the
    resamples' standard deviation: neither few queries nor a lucky seed alone makes a claim. Two or three seeds say
    little of other seeds; the interval then is too narrow rather than too wide.

    Args:
        base: (seeds, queries).
        other: the other's, with the same seeds and queries in the same order.
        settings: see `compare_paired`; samples are resamples too.
        clusters: of each query the cluster; None where every query stands for itself.

    Raises:
        EvaluationError: different shapes, or fewer than two queries or clusters.
    """
    averaged = compare_paired(base.mean(axis=0), other.mean(axis=0), settings, clusters)
    if base.shape != other.shape or base.ndim != 2 or len(base) < 2:
        return averaged
    differences = other - base
    sums = np.array([_cluster_sums(row, clusters)[0] for row in differences])
    sizes = _cluster_sums(differences[0], clusters)[1]
    seeds, groups = sums.shape
    rng = np.random.default_rng(settings.seed)
    means = []
    for start in range(0, settings.samples, batch := _batch(sums[0])):
        count = min(batch, settings.samples - start)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        of_groups = rng.multinomial(groups, np.full(groups, 1 / groups), size=count).astype(np.float64)
        means.append(((of_seeds @ sums) * of_groups).sum(axis=1) / (of_groups @ sizes))
    drawn = np.concatenate(means)
    low, high = np.quantile(drawn, [(1 - settings.confidence) / 2, (1 + settings.confidence) / 2])
    deviation = float(drawn.std(ddof=1))
    chance = float(2 * stats.norm.sf(abs(averaged.mean) / deviation)) if deviation > 0 else averaged.p_value
    low, high = min(float(low), averaged.low), max(float(high), averaged.high)
    return PairedDifference(averaged.mean, low, high, max(averaged.p_value, chance))


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
