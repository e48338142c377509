"""What each query came to under each model, and the file that keeps it.

`per_query.parquet` holds every query's outcome, so that any figure can be computed again and any win or loss be read.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import SetScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.storage.files import atomic_write

_ID_LISTS: Final = ("top_ids", "relevant_ids")

_PER_QUERY: Final = pa.schema(
    [
        *(pa.field(name, pa.string(), False) for name in ("set", "model", "query_id", "query")),
        *(pa.field(name, pa.float32(), False) for name in ("ndcg_at_10", "recall_at_10")),
        pa.field("rank_of_first_relevant", pa.int32()),
        *(pa.field(name, pa.list_(pa.string()), False) for name in _ID_LISTS),
        pa.field("cluster", pa.string()),
    ]
)
_ADDED: Final = ("cluster",)  # by later versions; a file of an earlier one lacks them


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row of `per_query.parquet`: one query, one model. Ranks count from 1; None is beyond what was kept.

    The cluster is the query's, see `EvaluationSet.clusters`; None where an earlier version wrote the file.
    """

    set: str
    model: str
    query_id: str
    query: str
    ndcg_at_10: float
    recall_at_10: float
    rank_of_first_relevant: int | None
    top_ids: tuple[str, ...]
    relevant_ids: tuple[str, ...]
    cluster: str | None = None


def query_rows(evaluation_set: EvaluationSet, model: str, scores: SetScores) -> list[QueryRow]:
    """Turn one model's scores on one set into rows of `per_query.parquet`."""
    cluster_of = dict(zip(evaluation_set.queries, evaluation_set.clusters, strict=True))
    return [
        QueryRow(
            set=evaluation_set.name,
            model=model,
            query_id=score.query_id,
            query=evaluation_set.queries[score.query_id],
            ndcg_at_10=score.ndcg_at_10,
            recall_at_10=score.metrics["recall_at_10"],
            rank_of_first_relevant=score.rank_of_first_relevant,
            top_ids=score.top_ids,
            relevant_ids=tuple(key for key, grade in evaluation_set.qrels[score.query_id].items() if grade > 0),
            cluster=cluster_of[score.query_id],
        )
        for score in scores.queries
    ]


def write_per_query(path: Path, rows: Iterable[QueryRow]) -> None:
    """Write `per_query.parquet`, whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=_PER_QUERY), buffer)
    atomic_write(path, buffer.getvalue())


def read_per_query(path: Path, *, models: Sequence[str] | None = None) -> list[QueryRow]:
    """Read `per_query.parquet`.

    Args:
        path: the file.
        models: whose rows to read; None for all.

    Raises:
        EvaluationError: the file is missing or was not written by this version.
    """
    try:
        table = pq.read_table(path, filters=None if models is None else [("model", "in", list(models))])
    except (OSError, pa.ArrowException) as error:
        raise EvaluationError(f"{path}: per-query results cannot be read ({error}); evaluate again") from None
    for name in _ADDED:
        if name not in table.column_names:
            table = table.append_column(_PER_QUERY.field(name), pa.nulls(len(table), _PER_QUERY.field(name).type))
    if not table.schema.equals(_PER_QUERY):
        raise EvaluationError(f"{path}: not per-query results of this version; evaluate again")
    return [QueryRow(**row | {name: tuple(row[name]) for name in _ID_LISTS}) for row in table.to_pylist()]
