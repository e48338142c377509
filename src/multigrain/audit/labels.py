"""The labels of a reader: rows marked bad in the report's explorer."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from multigrain.audit.run import AuditResult
from multigrain.errors import SourceError
from multigrain.records import Rejection


def read_labels(path: Path) -> tuple[str, ...]:
    """The ids of rows marked bad, from what the report's explorer downloads: JSON lines, or one JSON list.

    Raises:
        SourceError: the file cannot be read, or is no file of labels.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path}: not UTF-8, so not what the report's explorer downloads") from None
    is_list = text.lstrip().startswith("[")
    pieces = [text] if is_list else text.split("\n")
    ids: dict[str, None] = {}
    for line, piece in enumerate(pieces, start=1):
        if not piece.strip():
            continue
        place = f"{path}" if is_list else f"{path}, line {line}"
        try:
            value = json.loads(piece)
        except ValueError as error:
            raise SourceError(f"{place}: not JSON ({error}): {piece[:60]!r}") from None
        for number, entry in enumerate(value if is_list else [value], start=1):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or entry.get("mark") != "bad":
                raise SourceError(
                    f"{f'{path}, entry {number}' if is_list else place}: expected "
                    f'{{"id": …, "mark": "bad"}}, as the report\'s explorer downloads them, got {str(entry)[:60]}'
                )
            ids[entry["id"]] = None
    return tuple(ids)


def dump_labels(ids: Collection[str]) -> str:
    """Labels in the form that the explorer downloads."""
    return "".join(json.dumps({"id": row, "mark": "bad"}, ensure_ascii=False) + "\n" for row in ids)


def apply_labels(result: AuditResult, labelled: Collection[str]) -> AuditResult:
    """The result without the rows that a reader labelled bad, which become rejections."""
    wanted = set(labelled)
    rejections = [
        Rejection(example.id, "row", "marked_bad", "marked bad by a reader", example.query, example.positive)
        for example in result.examples
        if example.id in wanted
    ]
    examples = tuple(example for example in result.examples if example.id not in wanted)
    return replace(result, examples=examples, rejections=(*result.rejections, *rejections))
