"""The results of an evaluation, typed, and the two files they are kept in.

`evaluation.json` holds what a table shows; `per_query.parquet` holds every query's outcome, so that any figure can
be computed again and any win or loss be read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import SetScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.sets.sts import Floats, SimilaritySet, compare_similarities, spearman
from multigrain.evaluation.significance import PairedDifference, compare_paired
from multigrain.storage.files import atomic_write

__all__ = [
    "BASE",
    "CHOSEN_BY",
    "NDCG",
    "SPEARMAN",
    "EvaluationResults",
    "ModelScores",
    "QueryRow",
    "SetResult",
    "choice_words",
    "choose",
    "query_rows",
    "read_per_query",
    "read_results",
    "summarise_set",
    "summarise_similarity",
    "write_per_query",
    "write_results",
]

BASE: Final = "base"
CHOSEN_BY: Final = "validation nDCG@10"
NDCG: Final = "nDCG@10"
SPEARMAN: Final = "Spearman"

_PER_QUERY: Final = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("ndcg_at_10", pa.float32(), nullable=False),
        pa.field("recall_at_10", pa.float32(), nullable=False),
        pa.field("rank_of_first_relevant", pa.int32()),
        pa.field("top_ids", pa.list_(pa.string()), nullable=False),
        pa.field("relevant_ids", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class ModelScores:
    """One model on one set.

    Attributes:
        score: the set's metric: for retrieval nDCG@10, mean over queries, 0 to 1.
        recall_at_10: the same; None where nothing is retrieved.
        judged_at_10: share of the first 10 documents that somebody judged; None where judgments are not pooled.
        condensed: nDCG@10 with unjudged documents left out instead of taken as not relevant; None as above.
        recall_at_100: share of the relevant documents among the first 100; None where nothing is retrieved, or where
            an earlier version measured.
        mrr_at_10: mean reciprocal rank of the first relevant document; None as above.
    """

    score: float
    recall_at_10: float | None = None
    judged_at_10: float | None = None
    condensed: float | None = None
    recall_at_100: float | None = None
    mrr_at_10: float | None = None


@dataclass(frozen=True, slots=True)
class SetResult:
    """Every model on one set.

    Attributes:
        name: the set's name.
        role: what it is for.
        label: who judged.
        queries: how many queries (or pairs) were scored; 0 where MTEB gives one number only.
        documents: how many documents were searched; None where nothing is.
        models: model name to scores.
        delta: model name to its score minus the base model's; every model but the base. Empty where a task has one
            number and no parts to resample.
        metric: what the scores are.
    """

    name: str
    role: Role
    label: str
    queries: int
    documents: int | None
    models: Mapping[str, ModelScores]
    delta: Mapping[str, PairedDifference]
    metric: str = NDCG

    @property
    def unit(self) -> str:
        """What is counted."""
        return "pairs" if self.metric == SPEARMAN else "queries"


@dataclass(frozen=True, slots=True)
class EvaluationResults:
    """What `evaluation.json` holds.

    Attributes:
        chosen: the model that validation chose.
        models: all of them, the base first.
        sets: in the order they were scored.
        bootstrap_samples: resamples behind each interval.
        confidence: width of the intervals.
        seed: of the resampling.
        chosen_by: how `chosen` was chosen.
        forgetting_threshold: what the chosen model may lose on a forgetting set.
        chosen_on: the validation sets that chose, by name; empty where all of them did.
    """

    chosen: str
    models: tuple[str, ...]
    sets: tuple[SetResult, ...]
    bootstrap_samples: int
    confidence: float
    seed: int
    chosen_by: str = CHOSEN_BY
    forgetting_threshold: float = 0.01
    chosen_on: tuple[str, ...] = ()

    def beat_base(self) -> bool | None:
        """Whether the chosen model scored above the base, in the mean over the sets that chose; None without any."""
        sets = [
            each
            for each in self.sets
            if each.role == "validation" and (not self.chosen_on or each.name in self.chosen_on)
        ]
        gains = [each.models[self.chosen].score - each.models[BASE].score for each in sets]
        return sum(gains) > 0 if gains else None


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row of `per_query.parquet`: one query, one model. Ranks count from 1; None is beyond what was kept."""

    set: str
    model: str
    query_id: str
    query: str
    ndcg_at_10: float
    recall_at_10: float
    rank_of_first_relevant: int | None
    top_ids: tuple[str, ...]
    relevant_ids: tuple[str, ...]


def choose(validation: Mapping[str, float]) -> str:
    """The name with the highest validation nDCG@10 (several sets: the mean over sets); of equal ones, the earlier.

    Raises:
        EvaluationError: there is nothing to choose from.
    """
    if not validation:
        raise EvaluationError("no model to choose from: validation scored none")
    return max(validation, key=lambda name: validation[name])


def choice_words(names: Sequence[str]) -> str:
    """What chose, in words.

    Args:
        names: of the validation sets that did.
    """
    if list(names) == ["validation"]:
        return CHOSEN_BY
    if len(names) == 1:
        return f"{NDCG} on validation set {names[0]}"
    return f"mean {NDCG} over validation sets {', '.join(names)}"


def summarise_set(
    evaluation_set: EvaluationSet,
    scores: Mapping[str, SetScores],
    *,
    base: str = BASE,
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int,
) -> SetResult:
    """Turn every model's scores on one set into means and paired differences from the base model.

    Args:
        evaluation_set: the set.
        scores: model name to scores; holds the base model's.
        base: the model that others are compared with.
        samples: resamples behind each interval.
        confidence: width of the intervals.
        seed: of the resampling.

    Raises:
        EvaluationError: fewer than two queries.
    """
    reference = scores[base].ndcg_by_query if base in scores else None
    return SetResult(
        name=evaluation_set.name,
        role=evaluation_set.role,
        label=evaluation_set.label,
        queries=len(evaluation_set.queries),
        documents=len(evaluation_set.corpus),
        models={name: _model_scores(each, pooled=evaluation_set.pooled) for name, each in scores.items()},
        delta={
            name: compare_paired(reference, each.ndcg_by_query, samples=samples, confidence=confidence, seed=seed)
            for name, each in scores.items()
            if reference is not None and name != base
        },
    )


def summarise_similarity(
    similarity_set: SimilaritySet,
    similarities: Mapping[str, Floats],
    *,
    base: str = BASE,
    samples: int = 2_000,
    confidence: float = 0.95,
    seed: int,
) -> SetResult:
    """Turn every model's similarities on one set into correlations and paired differences from the base model.

    Args:
        similarity_set: the pairs and people's scores.
        similarities: model name to its similarity of each pair; holds the base model's.
        base: the model that others are compared with.
        samples: resamples behind each interval.
        confidence: width of the intervals.
        seed: of the resampling.
    """
    gold = np.array(similarity_set.gold)
    return SetResult(
        name=similarity_set.name,
        role=similarity_set.role,
        label=similarity_set.label,
        queries=len(gold),
        documents=None,
        models={name: ModelScores(spearman(gold, found)) for name, found in similarities.items()},
        delta={
            name: compare_similarities(
                gold, similarities[base], found, samples=min(samples, 2_000), confidence=confidence, seed=seed
            )
            for name, found in similarities.items()
            if base in similarities and name != base
        },
        metric=SPEARMAN,
    )


def _model_scores(scores: SetScores, *, pooled: bool) -> ModelScores:
    return ModelScores(
        score=scores.ndcg_at_10,
        recall_at_10=scores.recall_at_10,
        judged_at_10=scores.judged_at_10 if pooled else None,
        condensed=scores.condensed_ndcg_at_10 if pooled else None,
        recall_at_100=scores.recall_at_100,
        mrr_at_10=scores.mrr_at_10,
    )


def query_rows(evaluation_set: EvaluationSet, model: str, scores: SetScores) -> list[QueryRow]:
    """Turn one model's scores on one set into rows of `per_query.parquet`."""
    return [
        QueryRow(
            set=evaluation_set.name,
            model=model,
            query_id=each.query_id,
            query=evaluation_set.queries[each.query_id],
            ndcg_at_10=each.ndcg_at_10,
            recall_at_10=each.recall_at_10,
            rank_of_first_relevant=each.rank_of_first_relevant,
            top_ids=each.top_ids,
            relevant_ids=tuple(key for key, grade in evaluation_set.relevant[each.query_id].items() if grade > 0),
        )
        for each in scores.queries
    ]


def write_results(path: Path, results: EvaluationResults) -> None:
    """Write `evaluation.json`, whole or not at all."""
    atomic_write(path, json.dumps(asdict(results), indent=2, ensure_ascii=False))


def read_results(path: Path) -> EvaluationResults:
    """Read `evaluation.json`.

    Raises:
        EvaluationError: the file is missing or was not written by this version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["models"] = tuple(values["models"])
        values["sets"] = tuple(_set_result(each) for each in values["sets"])
        values["chosen_on"] = tuple(values.get("chosen_on", ()))
        return EvaluationResults(**values)
    except OSError as error:
        raise EvaluationError(f"{path}: no evaluation results ({error.strerror}); evaluate first") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{path}: not evaluation results of this version ({error}); evaluate again") from None


def write_per_query(path: Path, rows: Iterable[QueryRow]) -> None:
    """Write `per_query.parquet`, whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=_PER_QUERY), buffer)
    atomic_write(path, buffer.getvalue())


def read_per_query(path: Path) -> list[QueryRow]:
    """Read `per_query.parquet`.

    Raises:
        EvaluationError: the file is missing or was not written by this version.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path}: per-query results cannot be read ({error}); evaluate again") from None
    if not table.schema.equals(_PER_QUERY):
        raise EvaluationError(f"{path}: not per-query results of this version; evaluate again")
    return [_query_row(each) for each in table.to_pylist()]


def _set_result(values: dict[str, Any]) -> SetResult:
    values["models"] = {name: ModelScores(**scores) for name, scores in values["models"].items()}
    values["delta"] = {name: PairedDifference(**difference) for name, difference in values["delta"].items()}
    return SetResult(**values)


def _query_row(values: dict[str, Any]) -> QueryRow:
    lists: Sequence[str] = ("top_ids", "relevant_ids")
    return QueryRow(**values | {name: tuple(values[name]) for name in lists})
