"""Two-step search of any models as a command names them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.facts import BM25
from multigrain.encoders.models import Encoding, ModelSpec, open_encoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.first_stages import dense_stage, hybrid_stage, rerank_stages, word_stage
from multigrain.evaluation.per_query import QueryRow, query_rows
from multigrain.evaluation.reranked import RerankTable
from multigrain.evaluation.reranking import FirstStage, Reranker
from multigrain.evaluation.retrieval import SetScores
from multigrain.evaluation.sets.loading import OpenedSets
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings


def rerank_models(
    models: Sequence[ModelSpec],
    sets: OpenedSets,
    encoding: Encoding,
    rerankers: Sequence[Reranker],
    depths: Sequence[int],
    settings: CompareSettings,
    *,
    progress: Progress | None = None,
) -> tuple[tuple[RerankTable, ...], list[QueryRow]]:
    """Score what models find, alone and sorted again, on every retrieval set; nothing without a reranker.

    Where BM25 is among the models, so is hybrid: BM25 and the first embedder together.

    Args:
        models: first stages; all are compared with the first of them.
        sets: of which the retrieval sets are taken.
        encoding: how models are loaded.
        rerankers: which.
        depths: how many documents of each query are sorted again.
        settings: how to compare.
        progress: who is told.

    Returns:
        A table for each set, and the rows of every pipeline behind them: its name stands for the model's.

    Raises:
        EvaluationError: two rerankers have one name.
        ModelError: a model cannot be loaded.
    """
    if not rerankers:
        return (), []
    names = [reranker.name for reranker in rerankers]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise EvaluationError(f"two rerankers are called {repeated!r}; name them: NAME=MODEL")
    shown, rows = progress or SilentProgress(), list[QueryRow]()
    tables = [_rerank(models, each, encoding, rerankers, depths, settings, shown, rows) for each in sets.retrieval]
    return tuple(tables), rows


def _rerank(
    models: Sequence[ModelSpec],
    chosen: EvaluationSet,
    encoding: Encoding,
    rerankers: Sequence[Reranker],
    depths: Sequence[int],
    settings: CompareSettings,
    progress: Progress,
    rows: list[QueryRow],
) -> RerankTable:
    """One set's table; the rows behind it are added."""

    def keep(name: str, scores: SetScores) -> None:
        rows.extend(query_rows(chosen, name, scores))

    with ExitStack() as stack:
        stages = _stages(models, chosen, encoding, max(depths), stack)
        reference = stages[0].name
        return rerank_stages(
            stages, rerankers, chosen, depths, settings, reference=reference, progress=progress, on_scores=keep
        )


def _stages(
    models: Sequence[ModelSpec], chosen: EvaluationSet, encoding: Encoding, depth: int, stack: ExitStack
) -> list[FirstStage]:
    documents = list(chosen.corpus.values())
    stages: list[FirstStage] = []
    words = dense = None
    for spec in models:
        if spec.reference == BM25:
            words = word_stage(documents, depth)
            stages.append(FirstStage(spec.name, words.retriever, words.ask))
            continue
        encoder, model = stack.enter_context(open_encoder(spec, encoding))
        uncached = None if model is None else SentenceTransformerEncoder(model, batch_size=encoding.batch_size)
        stages.append(dense_stage(spec.name, encoder, documents, depth, uncached=uncached))
        dense = dense or stages[-1]
    return stages if words is None or dense is None else [*stages, hybrid_stage(words, dense)]
