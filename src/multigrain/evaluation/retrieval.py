"""Score a retriever on an evaluation set, query by query.

Ranking is exact and ours; `metrics` measures the ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from multigrain.config import fingerprint
from multigrain.encoders.cache import CachedEncoder
from multigrain.errors import EvaluationError, SourceError
from multigrain.evaluation.metrics import NDCG_AT_10, first_relevant, measure_queries, metrics_for
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.mining.best import NO_ROW, Best, Indices
from multigrain.mining.lexical import LexicalIndex
from multigrain.mining.search import top_k
from multigrain.mining.vectors import IN_MEMORY, VectorStore, embed_shards
from multigrain.storage.sequences import View

if TYPE_CHECKING:  # it loads torch, which scoring a ranking does not need
    from multigrain.encoders.protocol import Encoder

DEPTH: Final = 100
"""How far down a ranking is kept: enough for the metrics at 10 and for the rank of the first relevant document."""

RECIPROCAL_RANK: Final = 60
"""The constant of reciprocal rank fusion, as its authors set it."""

_NDCG: Final = "ndcg_at_10"
_NDCG_DEPTH: Final = 10


class Retriever(Protocol):
    """Anything that ranks documents: an embedding model, BM25."""

    def rank(self, queries: Sequence[str], documents: Sequence[str], depth: int) -> NDArray[np.int64]:
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
        rank_of_first_relevant: from 1; None where none is among the first `DEPTH`.
        top_ids: the first 10 documents, best first.
        metrics: the other metrics of `metrics.METRICS`, by name.
    """

    query_id: str
    ndcg_at_10: float
    rank_of_first_relevant: int | None
    top_ids: tuple[str, ...]
    metrics: Mapping[str, float]


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
    def metrics(self) -> dict[str, float]:
        """The other metrics by name, each a mean over queries."""
        names = self.queries[0].metrics if self.queries else ()
        return {name: float(np.mean([query.metrics[name] for query in self.queries])) for name in names}

    @property
    def ndcg_by_query(self) -> NDArray[np.float64]:
        """nDCG@10 of each query, in the set's order."""
        return np.array([query.ndcg_at_10 for query in self.queries], dtype=np.float64)


def nearest(
    queries: NDArray[np.float32],
    documents: Callable[[int, int], NDArray[np.float32]],
    count: int,
    depth: int,
    *,
    document_block: int = 8_192,
    query_block: int = 512,
) -> Indices:
    """The documents with the highest dot products, exactly.

    Holds one block of document vectors and one block of scores at a time, whatever the corpus' size.

    Args:
        queries: (n, dimensions).
        documents: returns the vectors from one position up to another; asked for each block once, in order.
        count: how many documents there are.
        depth: how many to find for each query.
        document_block: documents in memory at once.
        query_block: queries scored at once.

    Returns:
        Positions, best first: (n, min(depth, count)). Equal scores go to the earlier document.

    Raises:
        EvaluationError: vectors that are not finite, or of another dimension than the queries'.
    """
    _check(queries, "query", queries.shape[-1])
    best = Best.empty(len(queries), min(depth, count))
    blocks = [slice(first, first + query_block) for first in range(0, len(queries), query_block)]
    for start in range(0, count, document_block):
        block = documents(start, min(start + document_block, count))
        _check(block, "document", queries.shape[-1])
        for rows in blocks:
            best.offer(rows, queries[rows] @ block.T, start)
    for rows in blocks:
        best.merge(rows)
    return best.result()[1]


def _check(vectors: NDArray[np.float32], kind: str, dimensions: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise EvaluationError(
            f"mismatched dimensions: {kind} vectors have shape {vectors.shape}, query vectors {dimensions} columns; "
            "encode queries and documents with one model"
        )
    if not np.isfinite(vectors).all():
        raise EvaluationError(
            f"the model gave {kind} vectors that are not finite (NaN or infinity); its weights are damaged or "
            "training diverged: lower the learning rate or use float32"
        )


class DenseRetriever:
    """Ranks by the dot product of an encoder's vectors; exact.

    Args:
        encoder: embeds queries and documents.
        block: documents embedded and scored at once. Bounds memory.
        shards: a folder for the vectors of corpora that are too large for memory; see `stored_vectors`. None embeds
            documents as they are scored.
    """

    def __init__(self, encoder: Encoder, *, block: int = 8_192, shards: Path | None = None) -> None:
        self._encoder = encoder
        self._block = block
        self._shards = shards

    def rank(self, queries: Sequence[str], documents: Sequence[str], depth: int) -> NDArray[np.int64]:
        """Positions of the nearest documents, best first: (len(queries), min(depth, len(documents))).

        Raises:
            EvaluationError: the vectors are not finite, or queries' and documents' dimensions differ.
        """
        try:
            encoded = self._encoder.encode_queries(queries)
            if (stored := stored_vectors(self._encoder, documents, self._shards)) is not None:
                return top_k(encoded, stored, depth)[1]
            # One thread of ours, so that embedding keeps all of the library's.
            vectors = _Embedded(self._encoder, documents)
            return top_k(encoded, vectors, depth, threads=1, read_once=True, block=self._block)[1]
        except SourceError as error:
            raise EvaluationError(
                f"{error}. Vectors that are not finite come of damaged weights, or of training that diverged: lower "
                "the learning rate or use float32"
            ) from None


@dataclass(frozen=True)
class _Embedded:
    """A corpus' vectors, embedded when they are read. Implements `mining.best.Rows`."""

    encoder: Encoder
    documents: Sequence[str]

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return self.encoder.encode_documents(self.documents[rows])


def stored_vectors(encoder: Encoder, documents: Sequence[str], shards: Path | None) -> VectorStore | None:
    """The vectors of a corpus that is too large for memory, on the disk; None where it is not, or there is no folder.

    What is there already is not embedded again: shards are found by what they hold. No cache keeps them twice.

    Args:
        encoder: embeds documents.
        documents: the corpus, in the order in which it is searched.
        shards: the folder; None embeds nothing.
    """
    if shards is None or len(documents) <= IN_MEMORY:
        return None
    corpus = fingerprint(encoder.fingerprint, len(documents), documents[0], documents[-1])[:32]
    # What an endpoint was paid for is kept by its journal, which must not be passed by.
    direct = encoder.uncached if type(encoder) is CachedEncoder else encoder
    return embed_shards(documents, str(shards / corpus), encoder.fingerprint, direct)


class BM25Retriever:
    """Lucene's BM25 (k1 1.5, b 0.75) as `LexicalIndex` computes it; keeps the last corpus' index for the next call."""

    def __init__(self) -> None:
        self._indexed: tuple[Sequence[str], LexicalIndex] | None = None

    def rank(self, queries: Sequence[str], documents: Sequence[str], depth: int) -> Indices:
        """Positions of the best documents, best first; `NO_ROW` where no further one shares a word with the query.

        Args:
            queries: texts to search for.
            documents: texts to search. Equal scores go to the earlier one.
            depth: how many to find for each query.

        Returns:
            (len(queries), min(depth, len(documents))).
        """
        if self._indexed is None or not _same_texts(self._indexed[0], documents):
            self._indexed = (documents, LexicalIndex(documents))
        return self._indexed[1](queries, depth)


def _same_texts(left: Sequence[str], right: Sequence[str]) -> bool:
    return left is right or (len(left) == len(right) and all(map(eq, left, right)))


Ranked = TypeVar("Ranked", bound=Hashable)


def reciprocal_ranks(rankings: Iterable[Sequence[Ranked]]) -> dict[Ranked, float]:
    """What reciprocal rank fusion gives (Cormack et al., SIGIR 2009): the sum over rankings of 1 / (60 + rank).

    Args:
        rankings: the best first, ranks from 1.
    """
    scores: dict[Ranked, float] = {}
    for ranking in rankings:
        for rank, each in enumerate(ranking, start=1):
            scores[each] = scores.get(each, 0.0) + 1 / (RECIPROCAL_RANK + rank)
    return scores


class HybridRetriever:
    """Joins rankings by `reciprocal_ranks`.

    Args:
        parts: what ranks; each as deep as is asked for.
    """

    def __init__(self, parts: Sequence[Retriever]) -> None:
        self._parts = parts

    def rank(self, queries: Sequence[str], documents: Sequence[str], depth: int) -> Indices:
        """Positions of the best documents, best first: (len(queries), min(depth, len(documents))).

        `NO_ROW` where no part ranks a further one.
        """
        rankings = [part.rank(queries, documents, depth) for part in self._parts]
        joined = np.full((len(queries), min(depth, len(documents))), NO_ROW, dtype=np.int64)
        for row in range(len(queries)):
            scores = reciprocal_ranks(
                [position for position in ranking[row].tolist() if position != NO_ROW] for ranking in rankings
            )
            best = sorted(scores, key=lambda position: (-scores[position], position))[:depth]
            joined[row, : len(best)] = best
        return joined


def evaluate_retrieval(
    encode: Encoder, evaluation_set: EvaluationSet, *, block: int = 8_192, shards: Path | None = None
) -> SetScores:
    """Score an embedding model on a set.

    Args:
        encode: embeds queries and documents. Wrap it in `embedding_cache.CachedEncoder` where sets share texts.
        evaluation_set: what to score on.
        block: documents embedded and scored at once. Bounds memory.
        shards: a folder for the vectors of a corpus that is too large for memory.

    Raises:
        EvaluationError: the vectors are not finite, or queries' and documents' dimensions differ.
    """
    return evaluate_retriever(DenseRetriever(encode, block=block, shards=shards), evaluation_set)


def mean_ndcg_at_10(encode: Encoder, evaluation_set: EvaluationSet) -> float:
    """The mean nDCG@10 of an embedding model on a set, 0 to 1: that of `evaluate_retrieval`, and nothing else.

    Args:
        encode: embeds queries and documents.
        evaluation_set: what to score on.

    Raises:
        EvaluationError: as `evaluate_retrieval`.
    """
    ranking = rank_documents(DenseRetriever(encode), evaluation_set, _NDCG_DEPTH)
    figures = measure_queries(ranking, evaluation_set.qrels, {_NDCG: NDCG_AT_10})
    return float(np.mean([figures[query_id][_NDCG] for query_id in evaluation_set.queries]))


def evaluate_retriever(retriever: Retriever, evaluation_set: EvaluationSet) -> SetScores:
    """Score any retriever on a set; see `rank_documents`."""
    return score_ranking(rank_documents(retriever, evaluation_set, DEPTH), evaluation_set)


def rank_documents(retriever: Retriever, evaluation_set: EvaluationSet, depth: int) -> dict[str, list[str]]:
    """What a retriever finds for each query of a set: query id to document ids, best first.

    Documents with equal scores are ranked by descending id, as trec_eval does. A document that has its query's own id
    is left out of the query's ranking, as BEIR and MTEB do; see `EvaluationSet.own_documents`.

    Args:
        retriever: ranks.
        evaluation_set: queries and documents.
        depth: how many documents of each query are kept.
    """
    document_ids = sorted(evaluation_set.corpus, reverse=True)
    texts = View(document_ids, evaluation_set.corpus.__getitem__)
    own = evaluation_set.own_documents
    ranks = retriever.rank(list(evaluation_set.queries.values()), texts, depth + bool(own))
    return {
        query_id: [
            document_ids[position]
            for position in positions
            if position != NO_ROW and not (query_id in own and document_ids[position] == query_id)
        ][:depth]
        for query_id, positions in zip(evaluation_set.queries, ranks.tolist(), strict=True)
    }


def score_ranking(ranking: Mapping[str, Sequence[str]], evaluation_set: EvaluationSet) -> SetScores:
    """Score a ranking that is there already.

    Args:
        ranking: query id to document ids, best first.
        evaluation_set: holds the judgments.
    """
    metrics = metrics_for(pooled=evaluation_set.pooled)
    figures = measure_queries(ranking, evaluation_set.qrels, {_NDCG: NDCG_AT_10, **metrics})
    return SetScores(
        set_name=evaluation_set.name,
        queries=tuple(
            QueryScore(
                query_id=query_id,
                ndcg_at_10=figures[query_id][_NDCG],
                rank_of_first_relevant=first_relevant(ranking[query_id], evaluation_set.qrels[query_id]),
                top_ids=tuple(ranking[query_id][:10]),
                metrics={name: figures[query_id][name] for name in metrics},
            )
            for query_id in evaluation_set.queries
        ),
    )
