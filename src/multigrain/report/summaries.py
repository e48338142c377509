"""What the report computes from a run's tables: spreads of similarity, and how each query moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multigrain.records import LEVELS
from multigrain.report.data import QueryChange, QueryChanges, Similarity, SimilarityBand

__all__ = ["LookUp", "QueryOutcome", "compare_queries", "spread", "summarise_similarity"]

_BINS = 72
_SMOOTHING = 1.6  # bins; wide enough to hide the binning, narrow enough to keep two humps apart
_SHOWN = 6

LookUp = Callable[[Collection[str]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """One query under one model: its score, the rank of its first relevant document, what was first, what is right."""

    query: str
    ndcg: float
    rank: int | None
    top_id: str | None
    relevant_ids: tuple[str, ...]


def spread(count: int, wanted: int) -> list[int]:
    """Indices of `wanted` items evenly spread over `count`, or of all where there are fewer."""
    if wanted >= count:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def summarise_similarity(
    positive: NDArray[np.float32], levels: NDArray[np.float32], written: NDArray[np.bool_]
) -> Similarity | None:
    """Spread of the measured similarities of positives and of each level.

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


def compare_queries(
    set_name: str,
    base: Mapping[str, QueryOutcome],
    chosen: Mapping[str, QueryOutcome],
    look_up: LookUp,
) -> QueryChanges:
    """Wins and losses of the chosen model against the base, by query.

    Args:
        set_name: the set.
        base: the base model's outcomes by query id.
        chosen: the chosen model's.
        look_up: gives the beginnings of the documents it knows among some ids; called once, for the few shown.
    """
    pairs = [(base[key], chosen[key]) for key in base if key in chosen]
    changes = np.array([after.ndcg - before.ndcg for before, after in pairs], dtype=np.float64)
    moved = 1e-6  # scores are stored as 32-bit floats
    order = np.argsort(changes, kind="stable")
    losses = [int(i) for i in order[:_SHOWN] if changes[i] < -moved]
    wins = [int(i) for i in order[::-1][:_SHOWN] if changes[i] > moved]
    better, worse = int((changes > moved).sum()), int((changes < -moved).sum())
    texts = look_up({each for i in wins + losses for each in _ids(*pairs[i])})
    return QueryChanges(
        set_name=set_name,
        better=better,
        same=len(pairs) - better - worse,
        worse=worse,
        base_first=sum(before.rank == 1 for before, _ in pairs),
        chosen_first=sum(after.rank == 1 for _, after in pairs),
        wins=tuple(_change(*pairs[i], texts) for i in wins),
        losses=tuple(_change(*pairs[i], texts) for i in losses),
    )


def _ids(before: QueryOutcome, after: QueryOutcome) -> set[str]:
    return {each for each in (before.top_id, after.top_id, *after.relevant_ids) if each is not None}


def _change(before: QueryOutcome, after: QueryOutcome, texts: Mapping[str, str]) -> QueryChange:
    poorer = before if before.ndcg < after.ndcg else after
    relevant = next((each for each in after.relevant_ids if each in texts), next(iter(after.relevant_ids), None))
    intruder = poorer.top_id if poorer.top_id not in after.relevant_ids else None
    return QueryChange(
        query=after.query,
        base_ndcg=before.ndcg,
        chosen_ndcg=after.ndcg,
        base_rank=before.rank,
        chosen_rank=after.rank,
        relevant=texts.get(relevant or ""),
        intruder=texts.get(intruder or ""),
        relevant_id=relevant,
        intruder_id=intruder,
    )
