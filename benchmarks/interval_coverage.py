"""How often do 95% intervals cover the true difference? `python -m benchmarks.interval_coverage [--json]`.

Queries are drawn again and again from a population whose mean difference is known: independent ones, and ones in
clusters (queries about one document) whose members agree half of the time, so that their correlation is 0.5. A
difference in nDCG@10 is either a tie or one of the jumps between ranks that nDCG@10 has, more often up than down; and
once a normal one, without ties. Each row says how often the interval of `evaluation.significance` held the
truth, how often a percentile bootstrap over queries (what this project used before) and scipy's BCa over clusters did,
and how often the test found a difference that is not there.

Exits with 1 where an interval covers less than 93% or more than 97%.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import mean_interval, randomisation_p_value

Floats = NDArray[np.float64]

QUERIES: Final = (30, 100, 300, 1_000, 3_000)
TIES: Final = (None, 0.3, 0.5, 0.7)
"""Shares of queries that do not differ; None for normal differences without ties."""
CLUSTERS: Final = (1, 3)
"""Mean queries a cluster; with 3, the number in each is one and a Poisson number with mean two."""
LOW: Final = 0.93
HIGH: Final = 0.97

_JUMPS: Final = np.array([-1, -0.63, -0.5, -0.37, -0.24, -0.13, 0.13, 0.24, 0.37, 0.5, 0.63, 1])
"""What a query with one answer gains or loses when that moves between ranks 1, 2, 3, … and beyond 10."""
_CHANCES: Final = np.array([1, 1, 2, 3, 3, 4, 6, 5, 5, 4, 3, 2]) / 39
_AGREE: Final = 0.5**0.5
"""How often a query takes its cluster's difference; two of them both do, and agree, half of the time."""
_RESAMPLES: Final = 500
_BOOTSTRAPPED: Final = 300  # queries up to which the bootstraps are run beside; they take most of the time
_SIGNS: Final = 400


@dataclass(frozen=True)
class Coverage:
    """One row: shares of trials.

    Attributes:
        queries: in a trial.
        ties: share of queries that do not differ; None for normal differences.
        per_cluster: mean queries a cluster.
        trials: how many.
        covered: the interval held the truth.
        width: of the interval, mean.
        percentile: a percentile bootstrap over queries held it; None where that was not run.
        bca: scipy's BCa bootstrap over clusters held it; None likewise.
        false_claims: the test at 5% found a difference between models that do not differ; None likewise.
    """

    queries: int
    ties: float | None
    per_cluster: int
    trials: int
    covered: float
    width: float
    percentile: float | None
    bca: float | None
    false_claims: float | None


def true_mean(ties: float | None) -> float:
    """The mean difference of the population."""
    return 0.02 if ties is None else float((1 - ties) * _JUMPS @ _CHANCES)


def draw(rng: np.random.Generator, queries: int, ties: float | None, per_cluster: int) -> tuple[Floats, list[str]]:
    """A trial: a difference a query, and the cluster of each."""

    def values(count: int) -> Floats:
        if ties is None:
            return rng.normal(true_mean(None), 0.2, count)
        return np.where(rng.random(count) < ties, 0.0, rng.choice(_JUMPS, count, p=_CHANCES))

    sizes = 1 + rng.poisson(per_cluster - 1, queries)
    clusters = np.repeat(np.arange(queries), sizes)[:queries]
    agrees = (rng.random(queries) < _AGREE) & (per_cluster > 1)
    return np.where(agrees, values(queries)[clusters], values(queries)), [str(cluster) for cluster in clusters]


def measure(queries: int, ties: float | None, per_cluster: int, trials: int, seed: int) -> Coverage:
    """One row."""
    rng, truth = np.random.default_rng(seed), true_mean(ties)
    settings = CompareSettings(samples=_SIGNS, seed=seed)
    within: dict[str, list[bool]] = {"own": [], "percentile": [], "bca": [], "claims": []}
    widths = []
    for _ in range(trials):
        differences, clusters = draw(rng, queries, ties, per_cluster)
        low, high = mean_interval(differences, settings, clusters)
        within["own"].append(low <= truth <= high)
        widths.append(high - low)
        if queries <= _BOOTSTRAPPED:
            signs = rng.choice([-1.0, 1.0], size=queries)  # one a cluster: no model is better than the other
            without = differences * signs[np.array(clusters, dtype=np.int64)]
            within["claims"].append(randomisation_p_value(without, settings, clusters) < 0.05)
            for name, sums in (("percentile", (differences, np.ones(queries))), ("bca", _sums(differences, clusters))):
                low, high = _bootstrap(sums, rng, "BCa" if name == "bca" else "percentile")
                within[name].append(low <= truth <= high)
    shares = {name: float(np.mean(found)) if found else None for name, found in within.items()}
    return Coverage(
        queries,
        ties,
        per_cluster,
        trials,
        covered=float(np.mean(within["own"])),
        width=float(np.mean(widths)),
        percentile=shares["percentile"],
        bca=shares["bca"],
        false_claims=shares["claims"],
    )


def _sums(differences: Floats, clusters: list[str]) -> tuple[Floats, Floats]:
    numbers = np.array(clusters, dtype=np.int64)
    return np.bincount(numbers, weights=differences), np.bincount(numbers).astype(np.float64)


def _bootstrap(sums: tuple[Floats, Floats], rng: np.random.Generator, method: Any) -> tuple[float, float]:
    def mean(totals: Floats, sizes: Floats, axis: int = -1) -> Floats:
        return np.asarray(totals.sum(axis=axis) / sizes.sum(axis=axis))

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # a trial in which nothing differs
        interval = stats.bootstrap(
            sums, mean, paired=True, vectorized=True, n_resamples=_RESAMPLES, method=method, rng=rng
        ).confidence_interval
    return float(interval.low), float(interval.high)


def coverages(trials: int, seed: int) -> Iterator[Coverage]:
    """Every row."""
    for queries in QUERIES:
        for ties in TIES:
            for per_cluster in CLUSTERS:
                yield measure(queries, ties, per_cluster, trials, seed)


def main() -> int:
    """Print every row, and whether all of them cover as often as they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2_000, help="draws a row; 2,000 tell 95%% to within 1 point")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args()
    worst = []
    if not options.json:
        print("queries   ties  per cluster   covered   width   percentile, queries    BCa, clusters   false claims")
    for row in coverages(options.trials, options.seed):
        worst.append(row.covered)
        if options.json:
            print(json.dumps(asdict(row)), flush=True)
            continue
        beside = [f"{share:.1%}" if share is not None else "–" for share in (row.percentile, row.bca)]
        ties = "normal" if row.ties is None else f"{row.ties:.0%}"
        claims = f"{row.false_claims:.1%}" if row.false_claims is not None else "–"
        print(
            f"{row.queries:7,} {ties:>6} {row.per_cluster:12} {row.covered:9.1%} {row.width:7.3f} {beside[0]:>20} "
            f"{beside[1]:>16} {claims:>14}",
            flush=True,
        )
    return 0 if min(worst) >= LOW and max(worst) <= HIGH else 1


if __name__ == "__main__":
    sys.exit(main())
