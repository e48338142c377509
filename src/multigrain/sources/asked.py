"""Files of queries alone, as people's logs hold them: one a line, or a table of queries without answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from multigrain.errors import SourceError
from multigrain.storage.columns import QUERY, TEXT, Column
from multigrain.storage.rows import SEPARATED, Row, read_lines, read_rows, row_kind
from multigrain.storage.separated import header_cells

_ASKED: Final = Column("query", tuple(dict.fromkeys((*QUERY.names, *TEXT.names))))


def read_asked(path: Path) -> Iterator[str]:
    """The queries of a file, without spaces around them; empty ones are left out.

    Args:
        path: a table with a column of queries or of texts, such as BEIR's queries.jsonl; or any other text file, each
            of whose lines is a query, as those of a CSV or TSV file are whose first line names no such column.

    Raises:
        SourceError: it cannot be read, or a row of the table has no such column or something else than text in it.
    """
    kind = row_kind(path)
    names = _named(path, kind) if kind in SEPARATED else None
    if kind is None or names == []:
        yield from _lines(path)
        return
    try:
        # One column alone: where its rows do not fit, each line is a query with commas of its own.
        rows: Iterable[Row] = list(read_rows(path, kind)) if names and len(names) == 1 else read_rows(path, kind)
    except SourceError:
        yield from islice(_lines(path), 1, None)
        return
    for row in rows:
        if (text := row.text(_ASKED)) is not None:
            yield text


def _lines(path: Path) -> Iterator[str]:
    return (str(row.values["line"]) for row in read_lines(path))


def _named(path: Path, kind: str) -> list[str]:
    """The columns in the first line of a CSV or TSV file; empty where none is of queries or texts."""
    cells = [cell.strip() for cell in header_cells(next(_lines(path), ""), SEPARATED[kind])]
    return cells if _ASKED.among(cells) is not None else []
