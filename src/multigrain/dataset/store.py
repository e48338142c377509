"""Graded rows, rejections and synthesized rows as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.records import LEVELS, GradedExample, Level, Negative, Origin, Rejection, SynthesizedRow
from multigrain.rundir import atomic_write

__all__ = [
    "GRADED_SCHEMA",
    "read_examples",
    "read_rows",
    "write_examples",
    "write_rejections",
    "write_rows",
]


def _text(name: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable)


GRADED_SCHEMA = pa.schema(
    [
        _text("id"),
        _text("document_id", nullable=True),
        _text("query"),
        _text("positive"),
        pa.field("positive_similarity", pa.float32(), nullable=False),
        *(
            field
            for level in range(1, len(LEVELS) + 1)
            for field in (
                _text(f"negative_{level}"),
                pa.field(f"similarity_{level}", pa.float32(), nullable=False),
                _text(f"origin_{level}"),
                pa.field(f"written_level_{level}", pa.int8()),
            )
        ),
        pa.field("written_order_held", pa.bool_()),
        pa.field("actions", pa.list_(pa.string()), nullable=False),
    ]
)

_REJECTS_SCHEMA = pa.schema([_text(name) for name in ("id", "part", "reason", "detail", "query", "text")])

_ROWS_SCHEMA = pa.schema(
    [
        _text("id"),
        _text("document_id", nullable=True),
        _text("query"),
        _text("positive"),
        *(_text(f"negative_{level}", nullable=True) for level in range(1, len(LEVELS) + 1)),
        _text("strategy"),
        # Absent where an earlier version wrote the file.
        _text("mining", nullable=True),
        *(pa.field(f"candidates_{level}", pa.list_(pa.string())) for level in range(1, len(LEVELS) + 1)),
        pa.field("relevant_ids", pa.list_(pa.string())),
        pa.field("given", pa.bool_()),
        _text("query_type", nullable=True),
        _text("task", nullable=True),
    ]
)


def write_examples(path: Path, examples: Sequence[GradedExample]) -> None:
    """Write graded rows, whole or not at all."""
    _write(path, [_example_row(example) for example in examples], GRADED_SCHEMA)


def read_examples(path: Path) -> tuple[GradedExample, ...]:
    """Read graded rows that `write_examples` wrote, in their order."""
    return tuple(_example(row) for row in pq.read_table(path, schema=GRADED_SCHEMA).to_pylist())


def write_rejections(path: Path, rejections: Sequence[Rejection]) -> None:
    """Write what was turned away, with reasons."""
    names = _REJECTS_SCHEMA.names
    _write(path, [{name: getattr(each, name) for name in names} for each in rejections], _REJECTS_SCHEMA)


def write_rows(path: Path, rows: Sequence[SynthesizedRow]) -> None:
    """Write synthesized rows, whole or not at all."""
    values = [
        {
            "id": row.id,
            "document_id": row.document_id,
            "query": row.query,
            "positive": row.positive,
            **{f"negative_{int(level)}": row.negatives.get(level) for level in LEVELS},
            "strategy": row.strategy,
            "mining": row.mining,
            **{f"candidates_{int(level)}": list(texts) for level, texts in row.candidates.items() if texts},
            "relevant_ids": list(row.relevant_ids),
            "given": row.given,
            "query_type": row.query_type,
            "task": row.task,
        }
        for row in rows
    ]
    _write(path, values, _ROWS_SCHEMA)


def read_rows(path: Path) -> tuple[SynthesizedRow, ...]:
    """Read synthesized rows that `write_rows` wrote, in their order."""
    return tuple(
        SynthesizedRow(
            id=row["id"],
            document_id=row["document_id"],
            query=row["query"],
            positive=row["positive"],
            negatives={
                level: row[f"negative_{int(level)}"] for level in LEVELS if row[f"negative_{int(level)}"] is not None
            },
            strategy=row["strategy"],
            candidates={level: tuple(texts) for level in LEVELS if (texts := row[f"candidates_{int(level)}"])},
            mining=row["mining"] or "bands",
            relevant_ids=tuple(row["relevant_ids"] or ()),
            given=bool(row["given"]),
            query_type=row["query_type"],
            task=row["task"],
        )
        for row in pq.read_table(path, schema=_ROWS_SCHEMA).to_pylist()
    )


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    atomic_write(path, sink.getvalue().to_pybytes())


def _example_row(example: GradedExample) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": example.id,
        "document_id": example.document_id,
        "query": example.query,
        "positive": example.positive,
        "positive_similarity": example.positive_similarity,
        "written_order_held": example.written_order_held,
        "actions": list(example.actions),
    }
    for negative in example.negatives:
        level = int(negative.level)
        row[f"negative_{level}"] = negative.text
        row[f"similarity_{level}"] = negative.similarity
        row[f"origin_{level}"] = str(negative.origin)
        row[f"written_level_{level}"] = None if negative.written_level is None else int(negative.written_level)
    return row


def _example(row: dict[str, Any]) -> GradedExample:
    easiest, low, high, hardest = (
        Negative(
            text=row[f"negative_{level}"],
            level=Level(level),
            origin=Origin(row[f"origin_{level}"]),
            similarity=row[f"similarity_{level}"],
            written_level=None if row[f"written_level_{level}"] is None else Level(row[f"written_level_{level}"]),
        )
        for level in range(1, len(LEVELS) + 1)
    )
    return GradedExample(
        id=row["id"],
        document_id=row["document_id"],
        query=row["query"],
        positive=row["positive"],
        negatives=(easiest, low, high, hardest),
        positive_similarity=row["positive_similarity"],
        written_order_held=row["written_order_held"],
        actions=tuple(row["actions"]),
    )
