"""The table of retrieval metrics. A new metric is one line in `_BUILT_IN`.

Every metric here is measured on every retrieval set, kept in `evaluation.json`, and shown beside nDCG@10 in the
terminal's tables, in `--json`, on the report page and on the model card. trec_eval (by pytrec_eval) measures what it
knows; the few metrics that it lacks are functions of one query's ranking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pytrec_eval

from multigrain.errors import EvaluationError
from multigrain.plugins import Registry

Ranking = Sequence[str]
"""Document ids, best first."""
Grades = Mapping[str, int]
"""Document id to grade; above 0 is relevant."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one query's ranking; a set's figure is the mean over its queries.

    Attributes:
        title: what tables call it.
        measure: trec_eval's name of it, e.g. "recall_10", or a function of ranking and grades.
        pooled: measured only on sets whose judges also named documents that do not answer.
        condensed: measured on the ranking without the documents that nobody judged.
    """

    title: str
    measure: str | Callable[[Ranking, Grades], float]
    pooled: bool = False
    condensed: bool = False


def first_relevant(ranking: Ranking, grades: Grades) -> int | None:
    """The rank of the first relevant document, from 1; None where there is none."""
    ranks = (rank for rank, document_id in enumerate(ranking, start=1) if grades.get(document_id, 0) > 0)
    return next(ranks, None)


def _judged_share(ranking: Ranking, grades: Grades) -> float:
    top = ranking[:10]
    return sum(document_id in grades for document_id in top) / len(top) if top else 1.0


NDCG_AT_10: Final = Metric("nDCG@10", "ndcg_cut_10")
"""The metric that chooses and judges; the others stand beside it."""

_BUILT_IN: Final = {
    "recall_at_10": Metric("recall@10", "recall_10"),
    "recall_at_100": Metric("recall@100", "recall_100"),
    "mrr_at_10": Metric("MRR@10", lambda ranking, grades: 1 / (first_relevant(ranking[:10], grades) or math.inf)),
    "judged_at_10": Metric("judged@10", _judged_share, pooled=True),
    "condensed": Metric("condensed nDCG@10", "ndcg_cut_10", pooled=True, condensed=True),
}
METRICS: Final = Registry[Metric](
    kind="metric", group="multigrain.metrics", built_in=_BUILT_IN, named_by="evaluation metric"
)


def metrics_for(*, pooled: bool) -> dict[str, Metric]:
    """The metrics that a set is measured by, by name.

    Args:
        pooled: whether its judges also named documents that do not answer.
    """
    return {name: metric for name, metric in _table().items() if pooled or not metric.pooled}


def metric_title(name: str) -> str:
    """What tables call a metric; its name where the package that offers it is gone."""
    metric = _BUILT_IN.get(name) or _table().get(name)
    return name if metric is None else metric.title


def _table() -> dict[str, Metric]:
    # Looking for other packages' metrics takes milliseconds: once is enough.
    metrics = {**_BUILT_IN, **{name: METRICS.get(name) for name in METRICS.added}}
    return dict(sorted(metrics.items()))


def measure_queries(
    rankings: Mapping[str, Ranking], qrels: Mapping[str, Grades], metrics: Mapping[str, Metric]
) -> dict[str, dict[str, float]]:
    """Measure every query by every metric: query id to metric to figure.

    Args:
        rankings: query id to document ids, best first; an empty ranking scores zero.
        qrels: query id to document id to grade, for every query of the rankings.
        metrics: what to measure, by name.

    Raises:
        EvaluationError: trec_eval does not know a metric.
    """
    figures: dict[str, dict[str, float]] = {query_id: {} for query_id in rankings}
    for is_condensed in (False, True):
        chosen = {name: metric for name, metric in metrics.items() if metric.condensed is is_condensed}
        if not chosen:
            continue
        ranked = {
            query_id: [document_id for document_id in ranking if not is_condensed or document_id in qrels[query_id]]
            for query_id, ranking in rankings.items()
        }
        names = {metric.measure for metric in chosen.values() if isinstance(metric.measure, str)}
        by_trec_eval = _trec_eval(ranked, qrels, names)
        for query_id, ranking in ranked.items():
            for name, metric in chosen.items():
                figures[query_id][name] = (
                    # trec_eval leaves out queries that found nothing: that is a score of zero.
                    by_trec_eval.get(query_id, {}).get(metric.measure, 0.0)
                    if isinstance(metric.measure, str)
                    else metric.measure(ranking, qrels[query_id])
                )
    return figures


def _trec_eval(
    rankings: Mapping[str, Ranking], qrels: Mapping[str, Grades], names: set[str]
) -> Mapping[str, Mapping[str, float]]:
    if not names:
        return {}
    # trec_eval orders by score: falling whole numbers hand it our order as it is.
    run = {
        query_id: {document_id: float(len(ranking) - rank) for rank, document_id in enumerate(ranking)}
        for query_id, ranking in rankings.items()
    }
    judgments = {query_id: dict(qrels[query_id]) for query_id in rankings}
    try:
        figures: Mapping[str, Mapping[str, float]] = pytrec_eval.RelevanceEvaluator(judgments, names).evaluate(run)
    except ValueError as error:
        raise EvaluationError(f"metrics: {error}; name a measure that trec_eval knows, or give a function") from None
    return figures
