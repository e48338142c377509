"""MTEB's tasks and benchmarks by name, and any of our own sets as an MTEB task.

MTEB is always handed a loaded model and no result cache. Its cache keeps the results of every local folder under
one name (`no_model_name/available`) and would hand one model's scores to another.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import mteb
import numpy as np
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from multigrain.display.suggest import nearest_names
from multigrain.encoders.protocol import Encoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import SetScores, score_ranking
from multigrain.evaluation.sets.beir import GIVEN_JUDGMENTS
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.sets.sts import GIVEN_SCORES, Floats, SimilaritySet

# Renames that MTEB and sentence-transformers announce to MTEB itself: nothing a user could mend.
_OWN_RENAMES: Final = ("The fill_missing parameter is deprecated", "The `get_sentence_embedding_dimension` method")


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One model's result on one MTEB task.

    Attributes:
        task: the task's name.
        kind: MTEB's type of it, e.g. "STS" or "Retrieval".
        metric: the task's main metric, in MTEB's name.
        score: that metric, averaged as MTEB does over languages and splits.
        retrieval: for retrieval tasks, each subset as a set and the model's score by query; else empty.
        similarity: for similarity tasks, each subset as a set and the model's similarity by pair; else empty.
    """

    task: str
    kind: str
    metric: str
    score: float
    retrieval: tuple[tuple[EvaluationSet, SetScores], ...]
    similarity: tuple[tuple[SimilaritySet, Floats], ...] = ()


class MtebEncoder(AbsEncoder):
    """An encoder as MTEB asks for it. Queries are embedded as queries, everything else as documents.

    Args:
        encoder: embeds the texts; its vectors are compared by cosine.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.mteb_model_meta = ModelMeta.create_empty()

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **_: Any) -> NDArray[np.float32]:
        """Embed what MTEB's loader yields, in its order: (texts, dimensions)."""
        texts = [text for batch in inputs for text in batch["text"]]
        asks = prompt_type == PromptType.query
        return self._encoder.encode_queries(texts) if asks else self._encoder.encode_documents(texts)


def find_tasks(names: Sequence[str]) -> list[AbsTask]:
    """Find MTEB tasks by name; a benchmark's name stands for all its tasks.

    Raises:
        EvaluationError: a name is neither (the nearest ones are suggested), or a task is not about text.
    """
    tasks: dict[str, AbsTask] = {}
    for name in names:
        for task in _named(name):
            if list(task.metadata.modalities) != ["text"]:
                raise EvaluationError(
                    f"MTEB task {task.metadata.name!r} needs {', '.join(task.metadata.modalities)}; "
                    "only text models are evaluated here"
                )
            tasks.setdefault(task.metadata.name, task)
    return list(tasks.values())


def evaluate_task(
    model: SentenceTransformer | MtebEncoder,
    task: AbsTask,
    *,
    role: Role = "test",
    batch_size: int = 64,
    show_progress: bool = False,
) -> TaskScore:
    """Run one MTEB task through MTEB, with MTEB's prompts and metrics.

    Args:
        model: the loaded model, or an encoder in MTEB's form; never a name, so that nothing is confused with another
            model's results.
        task: from `find_tasks` or `as_mteb_task`.
        role: what the task is for.
        batch_size: texts encoded at once.
        show_progress: draw MTEB's progress bars.

    Raises:
        EvaluationError: the task's data cannot be fetched.
    """
    name = str(task.metadata.name)
    _load(task)
    with tempfile.TemporaryDirectory(prefix="multigrain-mteb-") as folder, warnings.catch_warnings():
        for announced in _OWN_RENAMES:
            warnings.filterwarnings("ignore", message=announced)
        result = mteb.evaluate(
            cast("Any", model),  # MTEB's protocol wants a constructor of its own form, which it never calls here
            task,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": batch_size, "show_progress_bar": show_progress},
            show_progress_bar=show_progress,
            prediction_folder=folder,
        )
        (scores,) = result.task_results
        has_parts = isinstance(task, AbsTaskRetrieval | AbsTaskSTS)
        retrieval, similarity = _outcomes(task, Path(folder), role) if has_parts else ([], [])
    return TaskScore(
        task=name,
        kind=str(task.metadata.type),
        metric=str(task.metadata.main_score),
        score=float(scores.get_score()),
        retrieval=tuple(retrieval),
        similarity=tuple(similarity),
    )


def as_mteb_task(evaluation_set: EvaluationSet) -> AbsTaskRetrieval:
    """Make an MTEB retrieval task of an evaluation set, for `evaluate_task` or `mteb.evaluate(…, cache=None)`."""
    metadata = TaskMetadata(
        name=evaluation_set.name,
        description=evaluation_set.provenance,
        dataset={"path": "local", "revision": "local"},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
    # MTEB reads the metadata off the class, so every set gets its own.
    task_class: type[AbsTaskRetrieval] = type(
        "EvaluationSetTask",
        (_EvaluationSetTask,),
        {
            "metadata": metadata,
            "evaluation_set": evaluation_set,
            "ignore_identical_ids": bool(evaluation_set.own_documents),
        },
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
                    "relevant_docs": {key: dict(grades) for key, grades in chosen.qrels.items()},
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


def _named(name: str) -> list[AbsTask]:
    try:
        return [mteb.get_task(name)]
    except KeyError:
        pass
    try:
        return list(mteb.get_benchmark(name).tasks)
    except KeyError:
        pass
    nearest = nearest_names(name, _known_names(), limit=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else "`mteb available-tasks` lists them"
    raise EvaluationError(f"{name!r} is no MTEB task or benchmark; {advice}")


@cache
def _known_names() -> tuple[str, ...]:
    tasks = (str(task.metadata.name) for task in mteb.get_tasks(exclude_superseded=False))
    return (*tasks, *(str(benchmark.name) for benchmark in mteb.get_benchmarks()))


def task_sets(task: AbsTask, role: Role) -> tuple[dict[str, EvaluationSet], dict[str, SimilaritySet]]:
    """The retrieval and similarity sets that a task consists of, by name; both are empty for other tasks.

    Raises:
        EvaluationError: the task's data cannot be fetched.
    """
    _load(task)
    retrieval: dict[str, EvaluationSet] = {}
    similarity: dict[str, SimilaritySet] = {}
    for name, _, _, data in _parts(task):
        if isinstance(task, AbsTaskRetrieval) and isinstance(data["queries"]["text"][0], str):
            retrieval[name] = _as_set(name, data, role)
        elif isinstance(task, AbsTaskSTS):
            pairs = tuple(zip(*(data[str(column)] for column in task.column_names), strict=True))
            # MTEB scores pairs with empty texts too; then its own number stands for the whole.
            with contextlib.suppress(EvaluationError):
                similarity[name] = SimilaritySet(name, role, GIVEN_SCORES, pairs, tuple(map(float, data["score"])))
    return retrieval, similarity


def _load(task: AbsTask) -> None:
    try:
        task.load_data()
    except OSError as error:  # no network, no such data set, a gated one: all of them are OSErrors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EvaluationError(
            f"MTEB task {str(task.metadata.name)!r}: its data cannot be fetched ({reason}); connect to the hub once, "
            "or choose a task that is in the cache"
        ) from error


def _parts(task: AbsTask) -> Iterator[tuple[str, str, str, Any]]:
    """A name, subset, split and data for each part that a task has data for."""
    for subset, splits in (task.dataset or {}).items():
        for split, data in splits.items():
            parts = [str(task.metadata.name), *([subset] if subset != "default" else [])]
            yield "/".join(parts + ([split] if len(splits) > 1 else [])), subset, split, data


def _outcomes(
    task: AbsTask, folder: Path, role: Role
) -> tuple[list[tuple[EvaluationSet, SetScores]], list[tuple[SimilaritySet, Floats]]]:
    """What was found for each query and pair, from the file that MTEB wrote."""
    predictions = json.loads((folder / task.prediction_file_name).read_text(encoding="utf-8"))
    retrieval, similarity = task_sets(task, role)
    by_query, by_pair = [], []
    for name, subset, split, _ in _parts(task):
        outcome = predictions.get(subset, {}).get(split)
        if outcome is None:
            continue  # not run
        if name in retrieval and isinstance(task, AbsTaskRetrieval):
            part = retrieval[name]
            ranking = {query: _best_first(task, query, outcome.get(query, {})) for query in part.queries}
            by_query.append((part, score_ranking(ranking, part)))
        elif name in similarity:
            values = outcome.get("similarity_scores") or outcome["cosine_scores"]
            by_pair.append((similarity[name], np.asarray(values, dtype=np.float64).ravel()))
    return by_query, by_pair


def _as_set(name: str, data: Mapping[str, Any], role: Role) -> EvaluationSet:
    qrels = {
        query: grades for query, grades in data["relevant_docs"].items() if any(grade > 0 for grade in grades.values())
    }
    corpus = data["corpus"]
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    texts = (" ".join(part for part in pair if part) for pair in zip(titles, corpus["text"], strict=True))
    return EvaluationSet(
        name=name,
        role=role,
        provenance=GIVEN_JUDGMENTS,
        corpus=dict(zip(corpus["id"], texts, strict=True)),
        queries={
            key: text for key, text in zip(data["queries"]["id"], data["queries"]["text"], strict=True) if key in qrels
        },
        qrels=qrels,
        leaves_own_out=False,  # the task says itself, in `ignore_identical_ids`
    )


def _best_first(task: AbsTaskRetrieval, query: str, scored: Mapping[str, float]) -> list[str]:
    ranked = sorted(scored, key=lambda key: (scored[key], key), reverse=True)  # ties as trec_eval breaks them
    if task.ignore_identical_ids:
        ranked = [key for key in ranked if key != query]
    return ranked[1:] if task.skip_first_result else ranked
