"""Graded rows, rejections and synthesized rows as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from multigrain.records import (
    LEVELS,
    GradedExample,
    Level,
    Negative,
    Origin,
    Passage,
    Rejection,
    ScoreScale,
    SynthesizedRow,
)
from multigrain.storage.parquet import StoredTable, TableWriter, attributes, open_table, write_table


def _text(name: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable)


_PASSAGES = pa.list_(
    pa.struct(
        [
            _text("text"),
            _text("origin"),
            pa.field("similarity", pa.float32(), nullable=False),
            pa.field("score", pa.float32()),
        ]
    )
)

# From `scale` on, version 2: absent where an earlier version wrote the file.
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
        _text("scale", nullable=True),
        pa.field("positive_score", pa.float32()),
        *(pa.field(f"score_{level}", pa.float32()) for level in range(1, len(LEVELS) + 1)),
        pa.field("further_positives", _PASSAGES),
        pa.field("candidates", _PASSAGES),
    ]
)

FIRST_COLUMNS: Final = GRADED_SCHEMA.names[: GRADED_SCHEMA.get_field_index("scale")]
"""The columns that every version of a file of graded rows has."""

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


# What a column and an attribute hold alike.
_EXAMPLE_ATTRIBUTES = (
    "id",
    "document_id",
    "query",
    "positive",
    "positive_similarity",
    "written_order_held",
    "positive_score",
)
_ROW_ATTRIBUTES = ("id", "document_id", "query", "positive", "strategy", "query_type", "task")


def write_examples(path: Path, examples: Iterable[GradedExample]) -> None:
    """Write graded rows, whole or not at all."""
    write_table(path, GRADED_SCHEMA, _example_row, examples)


def writing_examples(path: Path) -> AbstractContextManager[TableWriter[GradedExample]]:
    """A file of graded rows to write as they come."""
    return open_table(path, GRADED_SCHEMA, _example_row)


def open_examples(path: Path) -> StoredTable[GradedExample]:
    """Graded rows that `write_examples` wrote, in their order, read as they are asked for."""
    return StoredTable(path, GRADED_SCHEMA, _example)


def open_example_ids(path: Path) -> StoredTable[str]:
    """The ids of graded rows, in their order; nothing else of them is read."""
    return StoredTable(path, pa.schema([GRADED_SCHEMA.field("id")]), lambda row: str(row["id"]))


def open_positives(path: Path) -> StoredTable[tuple[str | None, tuple[str, ...]]]:
    """The document of each graded row, where it has one, and its positives; nothing else of the rows is read."""
    fields = [GRADED_SCHEMA.field(name) for name in ("document_id", "positive", "further_positives")]
    return StoredTable(path, pa.schema(fields), _positives)


def _positives(row: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    further = (passage["text"] for passage in row["further_positives"] or ())
    return row["document_id"], (row["positive"], *further)


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write what was turned away, with reasons."""
    write_table(path, _REJECTS_SCHEMA, attributes(_REJECTS_SCHEMA), rejections)


def open_rejections(path: Path) -> StoredTable[Rejection]:
    """What `write_rejections` wrote, read as it is asked for."""
    return StoredTable(path, _REJECTS_SCHEMA, lambda row: Rejection(**row))


def writing_rejections(path: Path) -> AbstractContextManager[TableWriter[Rejection]]:
    """A file of rejections to write as they come."""
    return open_table(path, _REJECTS_SCHEMA, attributes(_REJECTS_SCHEMA))


def write_rows(path: Path, rows: Iterable[SynthesizedRow]) -> None:
    """Write synthesized rows, whole or not at all."""
    write_table(path, _ROWS_SCHEMA, _synthesized_row, rows)


def writing_rows(path: Path) -> AbstractContextManager[TableWriter[SynthesizedRow]]:
    """A file of synthesized rows to write as they come."""
    return open_table(path, _ROWS_SCHEMA, _synthesized_row)


def read_rows(path: Path) -> tuple[SynthesizedRow, ...]:
    """Read synthesized rows that `write_rows` wrote, in their order, into memory."""
    return tuple(open_rows(path))


def open_rows(path: Path) -> StoredTable[SynthesizedRow]:
    """Synthesized rows that `write_rows` wrote, in their order, read as they are asked for."""
    return StoredTable(path, _ROWS_SCHEMA, _synthesized)


def _synthesized_row(row: SynthesizedRow) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in (*_ROW_ATTRIBUTES, "mining", "given")},
        **{f"negative_{int(level)}": row.negatives.get(level) for level in LEVELS},
        **{f"candidates_{int(level)}": list(texts) for level, texts in row.candidates.items() if texts},
        "relevant_ids": list(row.relevant_ids),
    }


def _synthesized(row: dict[str, Any]) -> SynthesizedRow:
    return SynthesizedRow(
        **{name: row[name] for name in _ROW_ATTRIBUTES},
        negatives={level: text for level in LEVELS if (text := row[f"negative_{int(level)}"]) is not None},
        candidates={level: tuple(texts) for level in LEVELS if (texts := row[f"candidates_{int(level)}"])},
        mining=row["mining"] or "bands",
        relevant_ids=tuple(row["relevant_ids"] or ()),
        given=bool(row["given"]),
    )


def _example_row(example: GradedExample) -> dict[str, Any]:
    row = {name: getattr(example, name) for name in _EXAMPLE_ATTRIBUTES}
    row["actions"] = list(example.actions)
    row["scale"] = None if example.scale is None else str(example.scale)
    row["further_positives"] = [_passage_row(passage) for passage in example.further_positives]
    row["candidates"] = [_passage_row(passage) for passage in example.candidates]
    for negative in example.negatives:
        level = int(negative.level)
        row[f"negative_{level}"] = negative.text
        row[f"similarity_{level}"] = negative.similarity
        row[f"origin_{level}"] = str(negative.origin)
        row[f"written_level_{level}"] = None if negative.written_level is None else int(negative.written_level)
        row[f"score_{level}"] = negative.score
    return row


def _passage_row(passage: Passage) -> dict[str, Any]:
    return {
        "text": passage.text,
        "origin": str(passage.origin),
        "similarity": passage.similarity,
        "score": passage.score,
    }


def _passages(rows: list[dict[str, Any]] | None) -> tuple[Passage, ...]:
    return tuple(Passage(**{**row, "origin": Origin(row["origin"])}) for row in rows or ())


def _example(row: dict[str, Any]) -> GradedExample:
    easiest, low, high, hardest = (
        Negative(
            text=row[f"negative_{level}"],
            level=Level(level),
            origin=Origin(row[f"origin_{level}"]),
            similarity=row[f"similarity_{level}"],
            written_level=None if row[f"written_level_{level}"] is None else Level(row[f"written_level_{level}"]),
            score=row[f"score_{level}"],
        )
        for level in range(1, len(LEVELS) + 1)
    )
    return GradedExample(
        **{name: row[name] for name in _EXAMPLE_ATTRIBUTES},
        negatives=(easiest, low, high, hardest),
        actions=tuple(row["actions"]),
        further_positives=_passages(row["further_positives"]),
        candidates=_passages(row["candidates"]),
        scale=None if row["scale"] is None else ScoreScale(row["scale"]),
    )
