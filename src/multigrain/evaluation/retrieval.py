"""Score a retriever on an evaluation set, query by query.

Ranking is exact and ours; the metrics are trec_eval's own, computed by pytrec_eval from the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import pytrec_eval
from numpy.typing import NDArray

from multigrain.evaluation.nearest import nearest
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.mining.best import NO_ROW

if TYPE_CHECKING:  # it loads torch, which scoring a ranking does not need
    from multigrain.encoders.protocol import Encoder

__all__ = [
    "DEPTH",
    "DenseRetriever",
    "QueryScore",
    "Retriever",
    "SetScores",
    "evaluate_retrieval",
    "evaluate_retriever",
    "score_ranking",
]

DEPTH: Final = 100
"""How far down a ranking is kept: enough for the metrics at 10 and for the rank of the first relevant document."""

_NDCG, _RECALL, _DEEP_RECALL = "ndcg_cut_10", "recall_10", "recall_100"


class Retriever(Protocol):
    """Anything that ranks documents: an embedding model, BM25."""

    def rank(self, queries: list[str], documents: list[str], depth: int) -> NDArray[np.int64]:
        """Positions of the best documents, best first, -1 where there are fewer: (queries, at most depth).

        Equal scores go to the earlier document.
        """
        ...


@dataclass(frozen=True, slots=True)
class QueryScore:
    """What one query found.

    Attributes:
        query_id: which query.
        ndcg_at_10: normalised discounted cumulative gain, 0 to 1.
        recall_at_10: share of the relevant documents among the first 10.
        rank_of_first_relevant: from 1; None where none is among the first `DEPTH`.
        top_ids: the first 10 documents, best first.
        judged_at_10: share of those that have a judgment, whatever it is.
        condensed_ndcg_at_10: nDCG@10 of the ranking without the documents that nobody judged.
        recall_at_100: share of the relevant documents among the first 100, which a reranker would get to see.
    """

    query_id: str
    ndcg_at_10: float
    recall_at_10: float
    rank_of_first_relevant: int | None
    top_ids: tuple[str, ...]
    judged_at_10: float = 1.0
    condensed_ndcg_at_10: float = 0.0
    recall_at_100: float = 0.0

    @property
    def reciprocal_rank_at_10(self) -> float:
        """One divided by the rank of the first relevant document, 0 where none is among the first 10."""
        rank = self.rank_of_first_relevant
        return 1 / rank if rank is not None and rank <= 10 else 0.0


@dataclass(frozen=True, slots=True)
class SetScores:
    """One model's scores on one set.

    Attributes:
        set_name: which set.
        queries: in the set's order, so that two models' scores pair up.
    """

    set_name: str
    queries: tuple[QueryScore, ...]

    @property
    def ndcg_at_10(self) -> float:
        """Mean over queries, 0 to 1."""
        return float(self.ndcg_by_query.mean())

    @property
    def recall_at_10(self) -> float:
        """Mean over queries, 0 to 1."""
        return float(np.mean([each.recall_at_10 for each in self.queries]))

    @property
    def recall_at_100(self) -> float:
        """Mean over queries, 0 to 1."""
        return float(np.mean([each.recall_at_100 for each in self.queries]))

    @property
    def mrr_at_10(self) -> float:
        """Mean reciprocal rank of the first relevant document, 0 to 1."""
        return float(np.mean([each.reciprocal_rank_at_10 for each in self.queries]))

    @property
    def judged_at_10(self) -> float:
        """Mean over queries, 0 to 1."""
        return float(np.mean([each.judged_at_10 for each in self.queries]))

    @property
    def condensed_ndcg_at_10(self) -> float:
        """Mean over queries, 0 to 1."""
        return float(np.mean([each.condensed_ndcg_at_10 for each in self.queries]))

    @property
    def ndcg_by_query(self) -> NDArray[np.float64]:
        """nDCG@10 of each query, in the set's order."""
        return np.array([each.ndcg_at_10 for each in self.queries], dtype=np.float64)


class DenseRetriever:
    """Ranks by the dot product of an encoder's vectors; exact.

    Args:
        encoder: embeds queries and documents.
        block: documents embedded and scored at once. Bounds memory.
    """

    def __init__(self, encoder: Encoder, *, block: int = 8_192) -> None:
        self._encoder = encoder
        self._block = block

    def rank(self, queries: list[str], documents: list[str], depth: int) -> NDArray[np.int64]:
        """Positions of the nearest documents, best first: (len(queries), min(depth, len(documents))).

        Raises:
            EvaluationError: the vectors are not finite, or queries' and documents' dimensions differ.
        """
        return nearest(
            self._encoder.encode_queries(queries),
            lambda start, end: self._encoder.encode_documents(documents[start:end]),
            len(documents),
            depth,
            document_block=self._block,
        )


def evaluate_retrieval(encode: Encoder, evaluation_set: EvaluationSet, *, block: int = 8_192) -> SetScores:
    """Score an embedding model on a set.

    Args:
        encode: embeds queries and documents. Wrap it in `embedding_cache.CachedEncoder` where sets share texts.
        evaluation_set: what to score on.
        block: documents embedded and scored at once. Bounds memory.

    Raises:
        EvaluationError: the vectors are not finite, or queries' and documents' dimensions differ.
    """
    return evaluate_retriever(DenseRetriever(encode, block=block), evaluation_set)


def evaluate_retriever(retriever: Retriever, evaluation_set: EvaluationSet) -> SetScores:
    """Score any retriever on a set.

    Documents with equal scores are ranked by descending id, as trec_eval does.
    """
    document_ids = sorted(evaluation_set.corpus, reverse=True)
    found = retriever.rank(
        list(evaluation_set.queries.values()), [evaluation_set.corpus[each] for each in document_ids], DEPTH
    )
    ranking = {
        query_id: [document_ids[position] for position in positions if position != NO_ROW]
        for query_id, positions in zip(evaluation_set.queries, found.tolist(), strict=True)
    }
    return score_ranking(ranking, evaluation_set)


def score_ranking(ranking: Mapping[str, Sequence[str]], evaluation_set: EvaluationSet) -> SetScores:
    """Score a ranking that is there already.

    Args:
        ranking: query id to document ids, best first.
        evaluation_set: holds the judgments.
    """
    judgments = {query_id: dict(grades) for query_id, grades in evaluation_set.relevant.items()}
    measured = _measure(ranking, judgments)
    condensed = measured
    if evaluation_set.pooled:
        known = {
            query_id: [document_id for document_id in found if document_id in judgments[query_id]]
            for query_id, found in ranking.items()
        }
        condensed = _measure(known, judgments)
    return SetScores(
        set_name=evaluation_set.name,
        queries=tuple(
            _query_score(
                query_id,
                ranking[query_id],
                judgments[query_id],
                measured.get(query_id, {}),
                condensed.get(query_id, {}).get(_NDCG, 0.0),
            )
            for query_id in evaluation_set.queries
        ),
    )


def _measure(
    ranking: Mapping[str, Sequence[str]], judgments: Mapping[str, Mapping[str, int]]
) -> Mapping[str, Mapping[str, float]]:
    # trec_eval orders by score: falling whole numbers hand it our order as it is.
    run = {
        query_id: {document_id: float(len(found) - rank) for rank, document_id in enumerate(found)}
        for query_id, found in ranking.items()
    }
    measured: Mapping[str, Mapping[str, float]] = pytrec_eval.RelevanceEvaluator(
        judgments, {"ndcg_cut.10", "recall.10,100"}
    ).evaluate(run)
    return measured


def _query_score(
    query_id: str, found: Sequence[str], grades: Mapping[str, int], measured: Mapping[str, float], condensed: float
) -> QueryScore:
    ranks = (rank for rank, document_id in enumerate(found, start=1) if grades.get(document_id, 0) > 0)
    return QueryScore(
        query_id=query_id,
        # pytrec_eval leaves out queries that found nothing: that is a score of zero.
        ndcg_at_10=measured.get(_NDCG, 0.0),
        recall_at_10=measured.get(_RECALL, 0.0),
        rank_of_first_relevant=next(ranks, None),
        top_ids=tuple(found[:10]),
        judged_at_10=float(np.mean([document_id in grades for document_id in found[:10]])) if found else 1.0,
        condensed_ndcg_at_10=condensed,
        recall_at_100=measured.get(_DEEP_RECALL, 0.0),
    )
