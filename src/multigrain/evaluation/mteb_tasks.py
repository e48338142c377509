"""MTEB and our own sets: any evaluation set as an MTEB task."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from multigrain.evaluation.sets import EvaluationSet

__all__ = ["as_mteb_task"]


def as_mteb_task(evaluation_set: EvaluationSet) -> AbsTaskRetrieval:
    """Make an MTEB retrieval task of an evaluation set, to be scored by `mteb.evaluate(model, task, cache=None)`.

    Pass the loaded model and `cache=None`: MTEB's default cache keeps the results of all local folders under one
    name and would hand one model's scores to another.
    """
    metadata = TaskMetadata(
        name=evaluation_set.name,
        description=evaluation_set.label,
        dataset={"path": "local", "revision": "local"},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
    # MTEB reads the metadata off the class, so every set gets its own.
    task_class: type[AbsTaskRetrieval] = type(
        "EvaluationSetTask", (_EvaluationSetTask,), {"metadata": metadata, "evaluation_set": evaluation_set}
    )
    return task_class()


class _EvaluationSetTask(AbsTaskRetrieval):
    evaluation_set: EvaluationSet

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        del num_proc  # everything is in memory
        chosen = self.evaluation_set
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_dict({"id": list(chosen.corpus), "text": list(chosen.corpus.values())}),
                    "queries": Dataset.from_dict({"id": list(chosen.queries), "text": list(chosen.queries.values())}),
                    "relevant_docs": {key: dict(grades) for key, grades in chosen.relevant.items()},
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True
