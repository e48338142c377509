"""Models scored on evaluation sets, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.models import BM25, Encoding, ModelSpec, open_encoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import DenseRetriever, Retriever
from multigrain.evaluation.score_store import ScoreStore
from multigrain.evaluation.scoring import Scored, score_model, score_retriever
from multigrain.evaluation.sets.loading import OpenedSets
from multigrain.mining.lexical import BM25Retriever


def score_models(
    models: Sequence[ModelSpec], sets: OpenedSets, encoding: Encoding, *, progress: Progress | None = None
) -> Scored:
    """Score every model on every set, one model in memory at a time.

    BM25 has no vectors: it takes part in retrieval sets only.

    Raises:
        EvaluationError: two models have one name, a model gives unusable vectors, or a task's data is out of reach.
        ModelError: a model cannot be loaded, or needs remote code.
        MissingExtraError: a model's package is not installed.
    """
    names = [model.name for model in models]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise EvaluationError(f"two models are called {repeated!r}; name them: NAME=REFERENCE")
    scored = Scored()
    for spec in models:
        if spec.reference == BM25:
            score_retriever(spec.name, BM25Retriever(), sets, scored)
            continue
        with open_encoder(spec, encoding) as (encoder, model):
            score_model(
                spec.name,
                model,
                encoder,
                sets,
                scored,
                progress=progress or SilentProgress(),
                batch_size=encoding.batch_size,
                kept=ScoreStore(encoding.scores, encoder.fingerprint),
            )
    return scored


@contextmanager
def open_retriever(model: ModelSpec, encoding: Encoding) -> Iterator[Retriever]:
    """A model, or BM25, as something that ranks documents.

    Raises:
        ModelError: it cannot be loaded, or needs remote code.
        MissingExtraError: its package is not installed.
    """
    if model.reference == BM25:
        yield BM25Retriever()
        return
    with open_encoder(model, encoding) as (encoder, _):
        yield DenseRetriever(encoder)
