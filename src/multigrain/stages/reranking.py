"""Two-step search of a run: its first stages under its rerankers, on the test queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing

from multigrain.config import Config, TeacherConfig
from multigrain.config.evaluation import unnamed
from multigrain.config.paths import CANDIDATE
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.protocol import Encoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.first_stages import dense_stage, hybrid_stage, rerank_stages, word_stage
from multigrain.evaluation.reranked import RerankTable
from multigrain.evaluation.reranking import Reranker
from multigrain.evaluation.results import BASE
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.evaluation.settings import CompareSettings
from multigrain.stages.base import RunContext
from multigrain.stages.fingerprints import taught_by
from multigrain.teachers.build import open_reranker, scores_path
from multigrain.teachers.store import PairScores

Opened = tuple[CachedEncoder, Callable[[], Encoder | None]]
"""An embedder behind a cache, and what loads it without one, to time it; None where it runs elsewhere."""


def measure_reranking(
    context: RunContext,
    encoders: Mapping[str, Opened],
    sets: Sequence[EvaluationSet],
    *,
    tested: str,
    settings: CompareSettings,
) -> tuple[RerankTable, ...]:
    """Score every first stage under every reranker of the run, and those that the config names; none without any.

    Args:
        context: the run, its candidates trained.
        encoders: the base model and the tested one, by name.
        sets: test sets.
        tested: the tuned model; the base where none was tuned.
        settings: how to compare.

    Raises:
        EvaluationError: two rerankers have one name.
        ModelError: a reranker that the config names cannot be loaded.
    """
    named = rerankers_of(context.config)
    if not named:
        return ()
    config, run = context.config, context.run
    limit = config.evaluation.reranking.max_queries
    with ExitStack() as stack:
        rerankers = []
        for name, teacher in named.items():
            by = taught_by(context, teacher)
            known = stack.enter_context(closing(PairScores(scores_path(run, by))))
            rerankers.append(open_reranker(config, run, name, teacher, known, by))
        asked = [sample(whole, max_queries=limit, seed=settings.seed) for whole in sets]
        return tuple(_measure(context, encoders, rerankers, each, tested, settings) for each in asked)


def rerankers_of(config: Config) -> dict[str, TeacherConfig]:
    """The rerankers of a run by name: its candidates, and those that `evaluation.reranking` names.

    Raises:
        EvaluationError: two have one name.
    """
    named = {name: TeacherConfig(model=f"{CANDIDATE}{name}") for name in config.training.rerankers}
    for text in config.evaluation.reranking.models:
        reference = unnamed(text)
        name = text.partition("=")[0] if reference != text else reference.rstrip("/")
        if name in named:
            raise EvaluationError(f"evaluation.reranking.models: {name!r} is taken; name it: OTHER={reference}")
        named[name] = TeacherConfig(model=reference, kind="cross-encoder")
    return named


def _measure(
    context: RunContext,
    encoders: Mapping[str, Opened],
    rerankers: Sequence[Reranker],
    chosen: EvaluationSet,
    tested: str,
    settings: CompareSettings,
) -> RerankTable:
    config = context.config.evaluation.reranking
    asked, depth = config.first_stages, max(config.depths)
    documents = list(chosen.corpus.values())
    stages = []
    # The tested embedder is always there, as all are compared with it.
    for name in dict.fromkeys((*([BASE] if "base" in asked else []), tested)):
        cached, load = encoders[name]
        stages.append(dense_stage(name, cached, documents, depth, uncached=load()))
    if "bm25" in asked or "hybrid" in asked:
        words, dense = word_stage(documents, depth), stages[-1]
        stages += [words] if "bm25" in asked else []
        stages += [hybrid_stage(words, dense)] if "hybrid" in asked else []
    return rerank_stages(
        stages, rerankers, chosen, config.depths, settings, reference=tested, progress=context.progress
    )
