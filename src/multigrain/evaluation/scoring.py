"""Models on any number of sets of every kind: what came out side by side, and each model's scores on disk."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sentence_transformers import SentenceTransformer

from multigrain.config import fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.encoder import share_cut
from multigrain.encoders.facts import BM25, EncodingFacts
from multigrain.encoders.models import Encoding, ModelSpec, facts_of, open_encoder
from multigrain.encoders.protocol import Encoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.metrics import METRICS
from multigrain.evaluation.per_query import QueryRow, query_rows
from multigrain.evaluation.results import BASE, ModelScores, SetResult, summarise_set, summarise_similarity
from multigrain.evaluation.retrieval import (
    BM25Retriever,
    DenseRetriever,
    QueryScore,
    Retriever,
    SetScores,
    evaluate_retrieval,
    evaluate_retriever,
)
from multigrain.evaluation.sets.loading import OpenedSets
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.sets.searched import sampled_texts, texts_fingerprint
from multigrain.evaluation.sets.sts import Floats, SimilaritySet, evaluate_sts
from multigrain.evaluation.settings import CompareSettings, SizeSettings
from multigrain.evaluation.vector_sizes import SizeTable, measure_sizes
from multigrain.storage.files import atomic_write

if TYPE_CHECKING:  # MTEB takes seconds to import, which few sets need
    from mteb.abstasks.abstask import AbsTask

    from multigrain.evaluation.sets.mteb_tasks import TaskScore

_FORMAT = 5
_TASK_FIELDS = ("task", "kind", "metric", "score")


@dataclass(slots=True)
class Scored:
    """What came out.

    Attributes:
        sets: the retrieval sets by name, those of MTEB's retrieval tasks among them.
        scores: retrieval set to model to its scores.
        similarity: the similarity sets by name, those of MTEB's tasks among them.
        similarities: similarity set to model to its similarity of each pair.
        tasks: MTEB task to model to its result, for tasks that have one number and no parts.
        roles: what such tasks are for.
        facts: model to what decides its figures besides its weights; models without vectors have none.
        vector_sizes: how much smaller vectors lose, for every model and retrieval set that were asked about.
    """

    sets: dict[str, EvaluationSet] = field(default_factory=dict)
    scores: dict[str, dict[str, SetScores]] = field(default_factory=dict)
    similarity: dict[str, SimilaritySet] = field(default_factory=dict)
    similarities: dict[str, dict[str, Floats]] = field(default_factory=dict)
    tasks: dict[str, dict[str, TaskScore]] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    facts: dict[str, EncodingFacts] = field(default_factory=dict)
    vector_sizes: list[SizeTable] = field(default_factory=list)

    def note(self, name: str, facts: EncodingFacts, model: SentenceTransformer | None, sets: OpenedSets) -> None:
        """Take in how a model was used on sets, and how much of their documents it did not read."""
        cut = dict(self.facts[name].cut) if name in self.facts else {}
        shares: dict[int, float] = {}  # a run's own sets share their documents
        for chosen in sets.retrieval if model is not None else ():
            if model is not None and id(chosen.corpus) not in shares:
                shares[id(chosen.corpus)] = share_cut(model, sampled_texts(chosen.corpus))
            if share := shares.get(id(chosen.corpus), 0.0):
                cut[chosen.name] = share
        self.facts[name] = replace(facts, cut=cut)

    def keep_retrieval(self, name: str, chosen: EvaluationSet, scores: SetScores) -> None:
        """Take in a model's scores on a retrieval set."""
        self.sets[chosen.name] = chosen
        self.scores.setdefault(chosen.name, {})[name] = scores

    def keep_similarity(self, name: str, chosen: SimilaritySet, similarities: Floats) -> None:
        """Take in a model's similarities on a similarity set."""
        self.similarity[chosen.name] = chosen
        self.similarities.setdefault(chosen.name, {})[name] = similarities

    def keep_task(self, name: str, task: TaskScore, role: Role) -> None:
        """Take in a model's result on an MTEB task: its parts, or its one number."""
        for evaluation_set, scores in task.retrieval:
            self.keep_retrieval(name, evaluation_set, scores)
        for similarity_set, similarities in task.similarity:
            self.keep_similarity(name, similarity_set, similarities)
        if not task.retrieval and not task.similarity:
            self.tasks.setdefault(task.task, {})[name] = task
            self.roles[task.task] = role

    def rows(self) -> Iterator[QueryRow]:
        """Every query of every retrieval set, for every model."""
        for set_name, by_model in self.scores.items():
            for name, scores in by_model.items():
                yield from query_rows(self.sets[set_name], name, scores)

    def results(self, settings: CompareSettings, *, base: str = BASE) -> Iterator[SetResult]:
        """Every set with all models' scores and their paired differences from the base model.

        Args:
            settings: how to compare.
            base: the model that others are compared with.

        Raises:
            EvaluationError: a set has fewer than two queries.
        """
        for set_name, scores in self.scores.items():
            yield summarise_set(self.sets[set_name], scores, settings, base=base)
        for set_name, similarities in self.similarities.items():
            yield summarise_similarity(self.similarity[set_name], similarities, settings, base=base)
        for task_name, tasks in self.tasks.items():
            first = next(iter(tasks.values()))
            yield SetResult(
                name=task_name,
                role=self.roles[task_name],
                provenance=f"MTEB, {first.kind}",
                queries=0,
                documents=None,
                models={name: ModelScores(task.score) for name, task in tasks.items()},
                delta={},
                metric=first.metric,
            )


class ScoreStore:
    """One model's scores on disk, set by set, so that an interrupted evaluation goes on where it stopped.

    A file is named by the model's fingerprint (weights and settings, never its name or folder) and the set's (its
    texts and judgments), so neither a changed model nor a changed set ever finds another's scores.

    Args:
        folder: where files lie; None keeps nothing.
        model: the model's fingerprint.
    """

    def __init__(self, folder: Path | None, model: str) -> None:
        self._folder = folder
        self._model = model

    def retrieval(self, chosen: EvaluationSet, score: Callable[[], SetScores]) -> SetScores:
        """The scores on a set: kept ones, or made now and kept."""
        if self._folder is None:
            return score()
        path = self._path(texts_fingerprint(chosen.corpus), dict(chosen.queries), dict(chosen.qrels))
        if (stored := _read(path)) is not None:
            return _set_scores(stored)
        scores = score()
        _write(path, asdict(scores))
        return scores

    def similarity(self, chosen: SimilaritySet, score: Callable[[], Floats]) -> Floats:
        """The similarities on a set: kept ones, or made now and kept."""
        path = self._path(chosen.pairs)
        if (stored := _read(path)) is not None:
            return np.array(stored, dtype=np.float64)
        similarities = score()
        _write(path, similarities.tolist())
        return similarities

    def task(self, task: AbsTask, role: Role) -> TaskScore | None:
        """The result on an MTEB task, if it is kept.

        Raises:
            EvaluationError: the task's data cannot be fetched.
        """
        stored = _read(self._task_path(task))
        if stored is None:
            return None
        from multigrain.evaluation.sets.mteb_tasks import TaskScore, task_sets

        retrieval, similarity = task_sets(task, role) if stored["retrieval"] or stored["similarity"] else ({}, {})
        return TaskScore(
            **{name: stored[name] for name in _TASK_FIELDS},
            retrieval=tuple((retrieval[name], _set_scores(scores)) for name, scores in stored["retrieval"].items()),
            similarity=tuple((similarity[name], np.array(values)) for name, values in stored["similarity"].items()),
        )

    def keep_task(self, task: AbsTask, result: TaskScore) -> None:
        """Keep the result on an MTEB task."""
        values = {name: getattr(result, name) for name in _TASK_FIELDS}
        values["retrieval"] = {part.name: asdict(scores) for part, scores in result.retrieval}
        values["similarity"] = {part.name: similarities.tolist() for part, similarities in result.similarity}
        _write(self._task_path(task), values)

    def _task_path(self, task: AbsTask) -> Path | None:
        from importlib.metadata import version

        metadata = task.metadata
        return self._path("mteb", version("mteb"), str(metadata.name), metadata.dataset.get("revision"))

    def _path(self, *parts: Any) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{fingerprint(_FORMAT, METRICS.names(), self._model, *parts)[:32]}.json"


def _read(path: Path | None) -> Any:
    if path is None or not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: kept scores cannot be read ({error}); delete the file") from None


def _write(path: Path | None, values: Any) -> None:
    if path is not None:
        atomic_write(path, json.dumps(values, ensure_ascii=False))


def _set_scores(values: dict[str, Any]) -> SetScores:
    queries = tuple(QueryScore(**query | {"top_ids": tuple(query["top_ids"])}) for query in values["queries"])
    return SetScores(values["set_name"], queries)


def score_model(
    name: str,
    model: SentenceTransformer | None,
    encoder: Encoder,
    sets: OpenedSets,
    scored: Scored,
    *,
    progress: Progress,
    batch_size: int = 64,
    store: ScoreStore | None = None,
    shards: Path | None = None,
) -> None:
    """Score a model on every set, into `scored`.

    Args:
        name: what tables call it.
        model: the loaded model; MTEB tasks are handed it as it is. None for one that runs elsewhere: they are handed
            its encoder.
        encoder: the same model behind a cache.
        sets: what to score on.
        scored: takes the scores in.
        progress: who is told.
        batch_size: texts that MTEB encodes at once.
        store: scores of an earlier call that was interrupted; takes new ones in.
        shards: a folder for the vectors of corpora that are too large for memory.

    Raises:
        EvaluationError: the vectors cannot be used, or a task's data is out of reach.
    """
    store = store or ScoreStore(None, "")
    with progress.task(f"Evaluating {name}", len(sets), unit="sets") as task:
        for retrieval_set in sets.retrieval:
            scores = store.retrieval(retrieval_set, partial(evaluate_retrieval, encoder, retrieval_set, shards=shards))
            scored.keep_retrieval(name, retrieval_set, scores)
            task.advance(note=f"{retrieval_set.name} nDCG@10 {scores.ndcg_at_10:.3f}")
        for similarity_set in sets.similarity:
            similarities = store.similarity(similarity_set, partial(evaluate_sts, encoder, similarity_set))
            scored.keep_similarity(name, similarity_set, similarities)
            task.advance(note=similarity_set.name)
        for mteb_task, role in sets.tasks:
            from multigrain.evaluation.sets.mteb_tasks import MtebEncoder, evaluate_task

            result = store.task(mteb_task, role) or evaluate_task(
                model or MtebEncoder(encoder), mteb_task, role=role, batch_size=batch_size
            )
            store.keep_task(mteb_task, result)
            scored.keep_task(name, result, role)
            task.advance(note=f"{result.task} {result.score:.3f}")


def score_retriever(name: str, retriever: Retriever, sets: OpenedSets, scored: Scored) -> None:
    """Score a retriever that has no vectors, such as BM25, on the retrieval sets, into `scored`."""
    for retrieval_set in sets.retrieval:
        scored.keep_retrieval(name, retrieval_set, evaluate_retriever(retriever, retrieval_set))


def score_models(
    models: Sequence[ModelSpec],
    sets: OpenedSets,
    encoding: Encoding,
    *,
    progress: Progress | None = None,
    vector_sizes: tuple[SizeSettings, CompareSettings] | None = None,
) -> Scored:
    """Score every model on every set, one model in memory at a time.

    BM25 has no vectors: it takes part in retrieval sets only.

    Args:
        models: which.
        sets: what to score on.
        encoding: how models are loaded and texts encoded.
        progress: who is told.
        vector_sizes: which smaller vectors are tried on the retrieval sets, and how these are compared with the whole
            ones; None for no others.

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
        with tempfile.TemporaryDirectory() as scratch, open_encoder(spec, encoding) as (encoder, model):
            score_model(
                spec.name,
                model,
                encoder,
                sets,
                scored,
                progress=progress or SilentProgress(),
                batch_size=encoding.batch_size,
                store=ScoreStore(encoding.scores, encoder.fingerprint),
                shards=encoding.shards or Path(scratch),
            )
            scored.note(spec.name, facts_of(spec, model), model, sets)
            if vector_sizes is not None:
                scored.vector_sizes += [
                    measure_sizes(
                        encoder, retrieval_set, *vector_sizes, model=spec.name, shards=encoding.shards or Path(scratch)
                    )
                    for retrieval_set in sets.retrieval
                ]
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
