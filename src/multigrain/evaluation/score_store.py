"""Scores of one model, kept set by set, so that an interrupted evaluation goes on where it stopped.

A file is named by the model's fingerprint (weights and settings, never its name or folder) and the set's (its texts
and judgments), so neither a changed model nor a changed set ever finds another's scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multigrain.config import fingerprint
from multigrain.errors import EvaluationError
from multigrain.evaluation.metrics import METRICS
from multigrain.evaluation.retrieval import QueryScore, SetScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.storage.files import atomic_write

if TYPE_CHECKING:  # MTEB takes seconds to import, which few sets need
    from mteb.abstasks.abstask import AbsTask

    from multigrain.evaluation.sets.mteb_tasks import TaskScore

_FORMAT = 3
_TASK_FIELDS = ("task", "kind", "metric", "score")


class ScoreStore:
    """One model's scores on disk.

    Args:
        folder: where files lie; None keeps nothing.
        model: the model's fingerprint.
    """

    def __init__(self, folder: Path | None, model: str) -> None:
        self._folder = folder
        self._model = model

    def retrieval(self, chosen: EvaluationSet, score: Callable[[], SetScores]) -> SetScores:
        """The scores on a set: kept ones, or made now and kept."""
        path = self._path(dict(chosen.corpus), dict(chosen.queries), dict(chosen.qrels))
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
