"""What finds documents in two-step search: embedders, BM25, both together; and how a service would ask each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from multigrain.display.progress import Progress
from multigrain.encoders.facts import BM25, HYBRID
from multigrain.evaluation.reranked import RerankTable, timed
from multigrain.evaluation.reranking import (
    FirstStage,
    Ranking,
    Reranker,
    measure_pipelines,
    rank_first,
    time_first_stage,
    time_rerankers,
)
from multigrain.evaluation.retrieval import BM25Retriever, DenseRetriever, HybridRetriever, SetScores
from multigrain.mining.lexical import LexicalIndex

if TYPE_CHECKING:  # they load torch
    from multigrain.encoders.protocol import Encoder
    from multigrain.evaluation.sets.retrieval_set import EvaluationSet
    from multigrain.evaluation.settings import CompareSettings

_MOST_VECTORS: Final = 200_000


def dense_stage(
    name: str, encoder: Encoder, documents: Sequence[str], depth: int, *, uncached: Encoder | None
) -> FirstStage:
    """An embedder as a first stage: the query is embedded, and held against the vectors of all documents.

    Args:
        name: what tables call it.
        encoder: may keep vectors.
        documents: what is searched; of very many a part is timed, as the time is that of the embedding then.
        depth: how many are found.
        uncached: the same without a cache, to be timed; None where it runs elsewhere.
    """
    stage = FirstStage(name, DenseRetriever(encoder))
    if uncached is None:
        return stage
    matrix, query_encoder = encoder.encode_documents(documents[:_MOST_VECTORS]), uncached

    def ask(query: str) -> object:
        scores = matrix @ query_encoder.encode_queries([query])[0]
        return np.argpartition(-scores, min(depth, len(scores) - 1))[:depth]

    return replace(stage, ask=ask)


def word_stage(documents: Sequence[str], depth: int) -> FirstStage:
    """BM25 as a first stage."""
    index = LexicalIndex(documents)
    return FirstStage(BM25, BM25Retriever(), lambda query: index([query], depth))


def hybrid_stage(words: FirstStage, dense: FirstStage) -> FirstStage:
    """BM25 and an embedder together, one asked after the other."""
    retriever = HybridRetriever((words.retriever, dense.retriever))
    one, other = words.ask, dense.ask
    if one is None or other is None:
        return FirstStage(HYBRID, retriever)
    return FirstStage(HYBRID, retriever, lambda query: (one(query), other(query)))


def rerank_stages(
    stages: Sequence[FirstStage],
    rerankers: Sequence[Reranker],
    chosen: EvaluationSet,
    depths: Sequence[int],
    settings: CompareSettings,
    *,
    reference: str,
    progress: Progress,
    on_scores: Callable[[str, SetScores], None] = lambda name, scores: None,
) -> RerankTable:
    """Score and time first stages, alone and under every reranker at every depth, on one set.

    Args:
        stages: what finds documents.
        rerankers: what sorts them again.
        chosen: the set.
        depths: how many documents of each query are sorted again.
        settings: how to compare.
        reference: the first stage that all are compared with.
        progress: who is told.
        on_scores: given the scores of every pipeline, by its name in the table.
    """
    rankings: dict[str, Ranking] = {stage.name: rank_first(stage.retriever, chosen, max(depths)) for stage in stages}
    alone = {stage.name: time_first_stage(stage, chosen) for stage in stages}
    with progress.task(f"Reranking {chosen.name}", None, unit="pairs") as task:
        table = measure_pipelines(
            rankings,
            rerankers,
            chosen,
            depths,
            settings,
            reference=reference,
            on_pairs=task.advance,
            on_scores=on_scores,
        )
        return timed(table, alone, time_rerankers(rerankers, rankings[reference], chosen, depths))
