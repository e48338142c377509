"""Two models on the same queries: how far apart, how surely, and where one wins and the other loses.

Comparing is done on per-query results, so it needs no model and can be done again at any time. P-values are corrected
(Holm) over everything that one comparison prints: who looks at ten sets finds a "significant" one by chance too often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from multigrain.errors import EvaluationError
from multigrain.evaluation.results import NDCG, SPEARMAN, QueryRow
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.sets.sts import Floats, SimilaritySet, compare_similarities, spearman
from multigrain.evaluation.significance import PairedDifference, compare_paired, holm
from multigrain.evaluation.verdict import SMALLEST_DIFFERENCE

__all__ = [
    "CompareSettings",
    "Conclusion",
    "Measured",
    "QueryChange",
    "SetInfo",
    "Verdict",
    "biggest_changes",
    "conclude",
    "measure_rows",
    "measure_similarities",
    "plain",
    "queries_to_tell",
]

# Metrics that differ by less than a float32's rounding are a tie.
_TIE: Final = 1e-6


class Verdict(StrEnum):
    """What may be said of a difference."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "no difference that matters"
    UNDECIDED = "not enough queries to tell"


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """How a comparison is made.

    Attributes:
        samples: resamples behind each interval, and random signs behind each p-value.
        confidence: width of the intervals; 1 - confidence is the chance of a false claim that is accepted.
        smallest: the smallest difference that matters. Decides when "no difference" may be said.
        seed: of the resampling.
    """

    samples: int = 10_000
    confidence: float = 0.95
    smallest: float = SMALLEST_DIFFERENCE
    seed: int = 13


@dataclass(frozen=True, slots=True)
class SetInfo:
    """What `evaluation.json` knows of a set: what it is for, and who judged."""

    role: Role
    label: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A model against the base on one set, before anything is concluded.

    Attributes:
        set: the set's name.
        role: what it is for; None where that is not known.
        label: who judged; None where that is not known.
        metric: `NDCG` or `SPEARMAN`.
        base: the base model's name.
        model: the other model's name.
        queries: how many queries (pairs, for `SPEARMAN`).
        base_score: the base model's score.
        score: the other model's.
        difference: score minus base_score, with interval and p-value.
        wins: queries on which the model is better; None where queries have no score of their own.
        losses: queries on which it is worse.
    """

    set: str
    role: Role | None
    label: str | None
    metric: str
    base: str
    model: str
    queries: int
    base_score: float
    score: float
    difference: PairedDifference
    wins: int | None = None
    losses: int | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a measurement comes to.

    Attributes:
        measured: the measurement.
        adjusted_p: its p-value, corrected over all that were concluded together.
        verdict: what may be said.
        queries_needed: where there are not enough queries, about how many would do; else None.
    """

    measured: Measured
    adjusted_p: float
    verdict: Verdict
    queries_needed: int | None


@dataclass(frozen=True, slots=True)
class QueryChange:
    """One query under both models.

    Attributes:
        set: the set's name.
        query_id: which query.
        query: its text.
        relevant_ids: documents that answer it.
        base_ndcg: the base model's nDCG@10.
        ndcg: the other model's.
        base_rank: rank of the first relevant document under the base model; None: not found.
        rank: the same under the other model.
        base_top_id: what the base model puts first; None: nothing.
        top_id: what the other model puts first.
    """

    set: str
    query_id: str
    query: str
    relevant_ids: tuple[str, ...]
    base_ndcg: float
    ndcg: float
    base_rank: int | None
    rank: int | None
    base_top_id: str | None
    top_id: str | None


def measure_rows(
    rows: Iterable[QueryRow],
    *,
    base: str,
    others: Sequence[str] | None = None,
    sets: Mapping[str, SetInfo] | None = None,
    settings: CompareSettings,
) -> list[Measured]:
    """Compare models on the retrieval sets of per-query results.

    Validation sets are left out: they chose between the models, and cannot judge them too.

    Args:
        rows: per-query results.
        base: the model that others are compared with.
        others: the other models; None for all there are. A model that was not scored on a set is left out there.
        sets: what is known of the sets.
        settings: how to compare.

    Raises:
        EvaluationError: a model is not among the rows, two models have different queries, or there are too few.
    """
    tables = _tables(rows)
    models = list(dict.fromkeys(model for _, model in tables))
    for name in (base, *(others or ())):
        if name not in models:
            raise EvaluationError(f"no model {name!r} in these results; they hold {', '.join(models) or 'none'}")
    wanted = others if others is not None else [name for name in models if name != base]
    known = sets or {}
    names = [each for each in dict.fromkeys(name for name, _ in tables) if not _is_validation(known.get(each))]
    return [
        _measure(name, base, model, tables, known.get(name), settings)
        for name in names
        for model in wanted
        if (name, base) in tables and (name, model) in tables
    ]


def measure_similarities(
    similarity_set: SimilaritySet, similarities: Mapping[str, Floats], *, base: str, settings: CompareSettings
) -> list[Measured]:
    """Compare models on a sentence-similarity set.

    Args:
        similarity_set: the pairs and people's scores.
        similarities: model name to its similarity of each pair.
        base: the model that the others are compared with.
        settings: how to compare.
    """
    gold = np.array(similarity_set.gold)
    return [
        Measured(
            set=similarity_set.name,
            role=similarity_set.role,
            label=similarity_set.label,
            metric=SPEARMAN,
            base=base,
            model=model,
            queries=len(gold),
            base_score=spearman(gold, similarities[base]),
            score=spearman(gold, found),
            difference=compare_similarities(
                gold,
                similarities[base],
                found,
                samples=min(settings.samples, 2_000),
                confidence=settings.confidence,
                seed=settings.seed,
            ),
        )
        for model, found in similarities.items()
        if model != base
    ]


def conclude(measured: Sequence[Measured], settings: CompareSettings) -> list[Conclusion]:
    """Say what may be said, with p-values corrected over all measurements at once.

    A difference is claimed where its corrected p-value is below 1 - confidence. Otherwise none is claimed to be
    absent either, unless the whole interval lies within ±smallest.
    """
    adjusted = holm({str(place): each.difference.p_value for place, each in enumerate(measured)})
    return [_conclude(each, adjusted[str(place)], settings) for place, each in enumerate(measured)]


def queries_to_tell(queries: int, width: float, *, smallest: float = SMALLEST_DIFFERENCE) -> int:
    """About how many queries would tell two models apart.

    An interval no wider than the smallest difference that matters cannot hold both zero and such a difference, and its
    width shrinks with the square root of the number of queries.

    Args:
        queries: how many were asked.
        width: of the interval of the difference that they gave, on a scale of 0 to 1.
        smallest: the smallest difference that matters.
    """
    return max(queries + 1, math.ceil(queries * (width / smallest) ** 2))


def plain(conclusion: Conclusion) -> dict[str, Any]:
    """A conclusion as JSON-like values."""
    return {
        **asdict(conclusion.measured),
        "adjusted_p": conclusion.adjusted_p,
        "verdict": conclusion.verdict.value,
        "queries_needed": conclusion.queries_needed,
    }


def biggest_changes(
    rows: Iterable[QueryRow], *, set_name: str, base: str, model: str, limit: int
) -> tuple[list[QueryChange], list[QueryChange]]:
    """The queries on which a model gains most over the base, and those on which it loses most; largest first."""
    tables = _tables(row for row in rows if row.set == set_name)
    before, after = tables.get((set_name, base), {}), tables.get((set_name, model), {})
    changes = [_change(before[key], after[key]) for key in before if key in after]
    by_gain = sorted(changes, key=lambda each: (each.base_ndcg - each.ndcg, each.query_id))
    wins = [each for each in by_gain if each.ndcg > each.base_ndcg + _TIE]
    losses = [each for each in reversed(by_gain) if each.ndcg < each.base_ndcg - _TIE]
    return wins[:limit], losses[:limit]


def _tables(rows: Iterable[QueryRow]) -> dict[tuple[str, str], dict[str, QueryRow]]:
    tables: dict[tuple[str, str], dict[str, QueryRow]] = {}
    for row in rows:
        tables.setdefault((row.set, row.model), {})[row.query_id] = row
    return tables


def _is_validation(info: SetInfo | None) -> bool:
    return info is not None and info.role == "validation"


def _measure(
    name: str,
    base: str,
    model: str,
    tables: Mapping[tuple[str, str], Mapping[str, QueryRow]],
    info: SetInfo | None,
    settings: CompareSettings,
) -> Measured:
    before, after = tables[name, base], tables[name, model]
    if before.keys() != after.keys():
        raise EvaluationError(
            f"set {name!r}: {base!r} answered {len(before)} queries and {model!r} {len(after)}, not the same ones; "
            "evaluate both on one set"
        )
    left = np.array([row.ndcg_at_10 for row in before.values()], dtype=np.float64)
    right = np.array([after[key].ndcg_at_10 for key in before], dtype=np.float64)
    return Measured(
        set=name,
        role=info.role if info else None,
        label=info.label if info else None,
        metric=NDCG,
        base=base,
        model=model,
        queries=len(left),
        base_score=float(left.mean()),
        score=float(right.mean()),
        difference=compare_paired(
            left, right, samples=settings.samples, confidence=settings.confidence, seed=settings.seed
        ),
        wins=int(np.count_nonzero(right > left + _TIE)),
        losses=int(np.count_nonzero(right < left - _TIE)),
    )


def _conclude(measured: Measured, adjusted_p: float, settings: CompareSettings) -> Conclusion:
    difference = measured.difference
    if adjusted_p < 1 - settings.confidence:
        verdict = Verdict.BETTER if difference.mean > 0 else Verdict.WORSE
    elif max(abs(difference.low), abs(difference.high)) <= settings.smallest:
        verdict = Verdict.EQUAL
    else:
        verdict = Verdict.UNDECIDED
    needed = None
    if verdict is Verdict.UNDECIDED:
        needed = queries_to_tell(measured.queries, difference.high - difference.low, smallest=settings.smallest)
    return Conclusion(measured, adjusted_p, verdict, needed)


def _change(before: QueryRow, after: QueryRow) -> QueryChange:
    return QueryChange(
        set=before.set,
        query_id=before.query_id,
        query=before.query,
        relevant_ids=before.relevant_ids,
        base_ndcg=before.ndcg_at_10,
        ndcg=after.ndcg_at_10,
        base_rank=before.rank_of_first_relevant,
        rank=after.rank_of_first_relevant,
        base_top_id=before.top_ids[0] if before.top_ids else None,
        top_id=after.top_ids[0] if after.top_ids else None,
    )
