"""Files of queries alone, as people's logs hold them: one a line, or a table of queries without answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from multigrain.storage.columns import QUERY, TEXT, Column
from multigrain.storage.rows import read_lines, read_rows, row_kind

_ASKED: Final = Column("query", tuple(dict.fromkeys((*QUERY.names, *TEXT.names))))
_SEPARATORS: Final = re.compile(r"[,;\t|]")


def read_asked(path: Path) -> Iterator[str]:
    """The queries of a file, without spaces around them; empty ones are left out.

    Args:
        path: a table with a column of queries or of texts, such as BEIR's queries.jsonl; or any other text file, each
            of whose lines is a query, as those of a CSV or TSV file are whose first line names no such column.

    Raises:
        SourceError: it cannot be read, or a row of the table has no such column or something else than text in it.
    """
    kind = row_kind(path)
    if kind is None or (kind in ("csv", "tsv") and not _has_header(path)):
        yield from (str(row.values["line"]) for row in read_lines(path))
        return
    for row in read_rows(path, kind):
        if (text := row.text(_ASKED)) is not None:
            yield text


def _has_header(path: Path) -> bool:
    """Whether the first line of a CSV or TSV file names a column of queries or texts."""
    first = next(islice(read_lines(path), 1), None)
    cells = _SEPARATORS.split("" if first is None else str(first.values["line"]))
    return _ASKED.among(cell.strip(' "') for cell in cells) is not None
