"""Cells of other tools' training files: texts, numbers and lists, or an error that names file, line and column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from multigrain.errors import SourceError
from multigrain.storage.entries import list_in, passage_text, shown, text_of
from multigrain.storage.rows import Row

Item = Callable[[Any, str], str]
"""Takes the text out of an entry of a list; its second argument begins errors."""


def numbers_of(row: Row, field: str) -> tuple[float, ...]:
    """The numbers of a cell: one, several, or none.

    Raises:
        SourceError: it holds something else.
    """
    value = row.values.get(field)
    numbers = value if isinstance(value, list) else [] if value is None or value == "" else [value]
    try:
        return tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        raise SourceError(f"{row.place}: `{field}` must hold numbers, got {shown(value)}") from None


def texts_of(row: Row, field: str) -> tuple[str, ...]:
    """The texts of a cell: a text, or a list of texts or of passages; in CSV a list may stand as it is printed.

    Raises:
        SourceError: it holds something else.
    """
    value = list_in(row.values.get(field), field, f"{row.place}: `{field}`")
    if not isinstance(value, list):
        return (text,) if (text := text_in(row, field)) else ()
    return tuple(entry_text(entry, f"{row.place}: `{field}`") for entry in value if entry is not None)


def entry_text(entry: Any, at: str) -> str:
    """The text of an entry of a list, a text or a passage; empty where there is none.

    Raises:
        SourceError: it is of another kind.
    """
    return "" if entry is None else (passage_text if isinstance(entry, dict) else text_of)(entry, at)


def text_in(row: Row, field: str) -> str:
    """The text of a cell; empty where there is none.

    Raises:
        SourceError: it holds something else.
    """
    value = row.values.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SourceError(f"{row.place}: `{field}` must be a text, got {shown(value)}")
    return value


def texts_in(row: Row, field: str, kind: str, item: Item) -> tuple[str, ...]:
    """The texts of a list; none where there is nothing.

    Args:
        row: the row.
        field: the list's column.
        kind: what the list holds, for errors.
        item: takes the text out of an entry.

    Raises:
        SourceError: it is no list, or an entry is of another kind.
    """
    value = row.values.get(field)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise SourceError(f"{row.place}: `{field}` must be a list of {kind}, got {shown(value)}")
    return tuple(item(entry, f"{row.place}: `{field}`") for entry in value)
