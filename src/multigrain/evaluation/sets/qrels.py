"""Relevance judgments ("qrels") in any common format.

Text files have TREC's four columns (query id, iteration, document id, grade), or three (query id, document id, grade)
with or without a header; .jsonl, .csv and .parquet files name their columns as BEIR does (query-id, corpus-id, score).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.texts import DOCUMENT_IDS, QUERY_IDS, numbered_lines
from multigrain.sources.files import read_rows

__all__ = ["read_qrels"]

_GRADES: Final = ("score", "grade", "relevance", "rel", "label")
_NAMED_COLUMNS: Final = (".jsonl", ".csv", ".parquet")
_EXPECTED: Final = "expected query id, document id and grade"


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read relevance judgments: query id to document id to grade. A file without grades names relevant documents only.

    Raises:
        EvaluationError: the file is missing or empty, a line has other columns, a grade is no whole number, or
            a pair is judged twice with different grades.
        SourceError: a .csv or .parquet file cannot be read.
    """
    relevant: dict[str, dict[str, int]] = {}
    found = _named(path) if path.suffix.lower() in _NAMED_COLUMNS else _columns(path)
    for number, query_id, document_id, written in found:
        grade = _grade(written)
        if grade is None:
            raise EvaluationError(f"{path}:{number}: grade {written!r} is not a whole number")
        known = relevant.setdefault(query_id, {}).setdefault(document_id, grade)
        if known != grade:
            raise EvaluationError(
                f"{path}:{number}: document {document_id!r} is judged {grade} for query {query_id!r}, "
                f"and {known} above; keep one of the two lines"
            )
    if not relevant:
        raise EvaluationError(f"{path}: no relevance judgments in it")
    return relevant


def _columns(path: Path) -> Iterator[tuple[int, str, str, Any]]:
    """Lines of a text file. A header tells the order of the columns; without one it is TREC's or BEIR's."""
    places: Sequence[int] | None = None
    for number, line in numbered_lines(path):
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if number == 1 and (places := _header(fields)) is not None:
            continue
        if places is not None and len(fields) > max(places):
            query_id, document_id, *rest = (fields[place] for place in places)
            yield number, query_id, document_id, rest[0] if rest else 1
            continue
        if len(fields) == 4:
            del fields[1]
        if len(fields) != 3:
            raise EvaluationError(f"{path}:{number}: {len(fields)} columns; {_EXPECTED} between tabs")
        yield number, fields[0], fields[1], fields[2]


def _header(fields: Sequence[str]) -> Sequence[int] | None:
    """The places of query id, document id and (where there is one) grade; None: the line is no header."""
    names = [field.lower() for field in fields]
    query, document, grade = (
        next((names.index(name) for name in known if name in names), None)
        for known in (QUERY_IDS, DOCUMENT_IDS, _GRADES)
    )
    if query is not None and document is not None:
        return [query, document] if grade is None else [query, document, grade]
    # Other names above the same columns: only the grade's tells that this is no judgment.
    return [0, len(names) - 2, len(names) - 1] if grade == len(names) - 1 and len(names) in (3, 4) else None


def _named(path: Path) -> Iterator[tuple[int, str, str, Any]]:
    for number, row in _objects(path) if path.suffix.lower() == ".jsonl" else read_rows(path):
        query_id, document_id = (_first(row, names) for names in (QUERY_IDS, DOCUMENT_IDS))
        if query_id in (None, "") or document_id in (None, ""):
            raise EvaluationError(
                f"{path}:{number}: {_EXPECTED} in columns such as query-id, corpus-id and score, got {str(row)[:60]}"
            )
        yield number, str(query_id), str(document_id), _first(row, _GRADES, 1)


def _objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise EvaluationError(f"{path}:{number}: expected an object, got {line[:60]!r}")
        yield number, row


def _first(row: Mapping[str, Any], names: Sequence[str], default: Any = None) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), default)


def _grade(written: Any) -> int | None:
    try:
        value = float(written)
    except (TypeError, ValueError):
        return None
    return int(value) if value.is_integer() else None
