"""The structure of a row: typed fields, and text that a file can hold. It is checked first, or mended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, get_args

from multigrain.audit.check import Problem
from multigrain.records import LEVELS, Mining, SynthesizedRow

_MAX_CHARACTERS: Final = 1_000_000
_UNWRITABLE: Final = re.compile("[\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def check_structure(row: SynthesizedRow) -> Problem | None:
    """What makes a row unfit for the data set's schema, or None.

    A row from our own writers never is; one that was read from somebody's file, or made by a plugin, may be.

    Args:
        row: the row; nothing about its fields is taken for granted.
    """
    # Typed as Any on purpose: the annotations are what is being checked.
    fields: dict[str, Any] = {"id": row.id, "query": row.query, "positive": row.positive, "strategy": row.strategy}
    fields |= {
        name: value for name in ("document_id", "query_type", "task") if (value := getattr(row, name)) is not None
    }
    if row.mining not in get_args(Mining):
        return Problem("schema", f"mining is {str(row.mining)[:20]!r}, not one of {', '.join(get_args(Mining))}")
    relevant: Any = row.relevant_ids
    if not isinstance(relevant, tuple | list):
        return Problem("schema", f"relevant_ids is {type(relevant).__name__}, not a list of ids")
    fields |= {f"relevant id {number}": value for number, value in enumerate(relevant)}
    for name, collection in (("negatives", row.negatives), ("candidates", row.candidates)):
        problem = _check_levels(name, collection, fields)
        if problem is not None:
            return problem
    for name, value in fields.items():
        problem = check_text(name, value)
        if problem is not None:
            return problem
    return None if row.id else Problem("schema", "id is empty")


def check_text(name: str, value: Any) -> Problem | None:
    """What makes a value unfit to be a text of the data set, or None; `name` is what the problem calls it."""
    if not isinstance(value, str):
        return Problem("schema", f"{name} is {type(value).__name__}, not text")
    if _UNWRITABLE.search(value):
        return Problem("schema", f"{name} holds half a surrogate pair, which UTF-8 cannot")
    if "\x00" in value:
        return Problem("schema", f"{name} holds a NUL character")
    if len(value) > _MAX_CHARACTERS:
        return Problem("schema", f"{name} has {len(value)} characters, at most {_MAX_CHARACTERS}")
    return None


def mend(row: SynthesizedRow) -> SynthesizedRow:
    """The row with what is unfit left out: other fields than texts, control characters, halves of surrogate pairs."""
    relevant: Any = row.relevant_ids if isinstance(row.relevant_ids, tuple | list) else ()
    negatives: Any = row.negatives
    candidates: Any = row.candidates
    return replace(
        row,
        id=mend_text(row.id),
        document_id=mend_text(row.document_id) if isinstance(row.document_id, str) else None,
        relevant_ids=tuple(document for document in relevant if isinstance(document, str)),
        mining=row.mining if row.mining in get_args(Mining) else "bands",
        query_type=mend_text(row.query_type) or None,
        task=mend_text(row.task) or None,
        query=mend_text(row.query),
        positive=mend_text(row.positive),
        strategy=mend_text(row.strategy),
        negatives={
            level: mend_text(negatives[level])
            for level in LEVELS
            if isinstance(negatives, Mapping) and isinstance(negatives.get(level), str)
        },
        candidates={
            level: tuple(mend_text(text) for text in candidates[level] if isinstance(text, str))
            for level in LEVELS
            if isinstance(candidates, Mapping) and isinstance(candidates.get(level), tuple | list)
        },
    )


def mended(row: SynthesizedRow) -> SynthesizedRow:
    """The row, mended where it needs to be."""
    return row if check_structure(row) is None else mend(row)


def _check_levels(name: str, collection: Any, fields: dict[str, Any]) -> Problem | None:
    if not isinstance(collection, Mapping):
        return Problem("schema", f"{name} is {type(collection).__name__}, not a mapping of levels")
    for level, value in collection.items():
        if isinstance(level, bool) or level not in tuple(LEVELS):
            return Problem("schema", f"{name} has a level {str(level)[:20]!r}, not one of 1 to 4")
        if name == "negatives":
            fields[f"negative {int(level)}"] = value
        elif not isinstance(value, tuple | list):
            return Problem("schema", f"{name} at level {int(level)} is {type(value).__name__}, not a list of texts")
        else:
            fields |= {f"candidate {number} of level {int(level)}": text for number, text in enumerate(value)}
    return None


def mend_text(value: Any) -> str:
    """A text without what no file can hold; empty for anything else than a text."""
    return _CONTROL.sub("", value)[:_MAX_CHARACTERS] if isinstance(value, str) else ""
