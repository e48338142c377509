"""Two-step search of any models as a command names them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.models import BM25, Encoding, ModelSpec, open_encoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.first_stages import dense_stage, hybrid_stage, rerank_stages, word_stage
from multigrain.evaluation.reranked import RerankTable
from multigrain.evaluation.reranking import FirstStage, Reranker
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
) -> tuple[RerankTable, ...]:
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

    Raises:
        EvaluationError: two rerankers have one name.
        ModelError: a model cannot be loaded.
    """
    if not rerankers:
        return ()
    names = [reranker.name for reranker in rerankers]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise EvaluationError(f"two rerankers are called {repeated!r}; name them: NAME=MODEL")
    shown, tables = progress or SilentProgress(), []
    for chosen in sets.retrieval:
        with ExitStack() as stack:
            stages = _stages(models, chosen, encoding, max(depths), stack)
            tables.append(
                rerank_stages(stages, rerankers, chosen, depths, settings, reference=stages[0].name, progress=shown)
            )
    return tuple(tables)


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
