"""Rows that a reader marked bad in the report's explorer."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from multigrain.audit.run import AuditResult
from multigrain.errors import SourceError
from multigrain.records import Rejection

__all__ = ["apply_marks", "dump_marks", "read_marks"]


def read_marks(path: Path) -> tuple[str, ...]:
    """The ids of rows marked bad, from what the report's explorer downloads: JSON lines, or one JSON list.

    Raises:
        SourceError: the file cannot be read, or is no file of marks.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path}: not UTF-8, so not what the report's explorer downloads") from None
    if text.lstrip().startswith("["):
        try:
            entries = list(enumerate(json.loads(text), start=1))
        except ValueError as error:
            raise SourceError(f"{path}: not JSON ({error})") from None
        return _ids(path, "entry", entries)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    entries = []
    for number, line in lines:
        try:
            entries.append((number, json.loads(line)))
        except ValueError as error:
            raise SourceError(f"{path}, line {number}: not JSON ({error}): {line[:60]!r}") from None
    return _ids(path, "line", entries)


def dump_marks(ids: Collection[str]) -> str:
    """Marks in the form that the explorer downloads."""
    return "".join(json.dumps({"id": each, "mark": "bad"}, ensure_ascii=False) + "\n" for each in ids)


def apply_marks(result: AuditResult, marked: Collection[str]) -> AuditResult:
    """The result without the marked rows, which become rejections."""
    wanted = set(marked)
    gone = [
        Rejection(each.id, "row", "marked_bad", "marked bad by a reader", each.query, each.positive)
        for each in result.examples
        if each.id in wanted
    ]
    kept = tuple(each for each in result.examples if each.id not in wanted)
    return replace(result, examples=kept, rejections=(*result.rejections, *gone))


def _ids(path: Path, what: str, entries: list[tuple[int, Any]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for number, entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or entry.get("mark") != "bad":
            raise SourceError(
                f'{path}, {what} {number}: expected {{"id": …, "mark": "bad"}}, as the report\'s explorer downloads '
                f"them, got {str(entry)[:60]}"
            )
        found[entry["id"]] = None
    return tuple(found)
