"""Tables of lines: CSV, whose quotes may hold line ends, and TSV, in which a line is a row.

A tab-separated file is not a CSV file with another separator: most are written without quotes, so that a quote in a
text is a character like any other. A line of a TSV file that has the header's number of cells is a row; a cell that
is quoted from end to end, as CSV quotes, loses its quotes. Only where lines do not fit the header is a quote taken to
hold tabs or line ends, as spreadsheets and pandas write them.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.text import text_stream

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_TOLD_SEPARATOR: Final = re.compile(r'"?sep=([,;\t|])"?[,;\t|]*', re.IGNORECASE)
"""The line that spreadsheets put before the header, to tell each other the separator."""
_MAX_FIELD: Final = 16_000_000
_MISSING: Final = frozenset(("NULL", r"\N", "NaN", "nan", "<NA>"))
"""How databases and pandas write what is not there, where they were not told otherwise."""
_SPACED: Final = re.compile(r"[^,]+(?:, [^,]+)+")  # a header
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')

_Cells = tuple[int, int, list[str]]
"""The line that a row begins in, from 1; the lines by which line ends in cells put it behind its row; its cells."""


def read_separated(path: Path | str, usual: str = ",") -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The rows of a CSV or TSV file, each with the line that it begins in, and with what its place has before that.

    The separator is the one that a first line tells, as in `sep=;`; or the usual one; or, where the header does not
    have it, the one among comma, semicolon, tab and bar that it has. Cells that a row lacks at its end are None, as
    are those that hold a database's or pandas' mark for nothing, such as NULL. Where the header has a space after each
    comma, spaces after commas are no part of cells.

    Args:
        path: the file, or an fsspec address.
        usual: the separator that the file's name stands for.

    Raises:
        SourceError: it is not UTF-8, a row has more cells than there are columns, a quote is not closed, or two
            columns have one name.
    """
    csv.field_size_limit(_MAX_FIELD)
    # In a TSV file a carriage return within a line is text; the reader of CSV wants line ends as they are.
    with text_stream(path, newline="\n" if usual == "\t" else "") as stream:
        lines = iter(stream)
        first = next((line for line in enumerate(lines, start=1) if line[1].strip()), None)
        if first is not None and (told := _TOLD_SEPARATOR.fullmatch(first[1].strip("\r\n"))) is not None:
            usual = told[1]
            first = next(((number, line) for number, line in enumerate(lines, first[0] + 1) if line.strip()), None)
        if first is None:
            return
        separator = _separator(first[1], usual)
        numbered = chain([first[1]], lines)
        rows = _tab_rows(numbered, first[0]) if separator == "\t" else _csv_rows(numbered, separator, first[0], path)
        _, _, names = next(rows)
        names = names[: _filled(names) or 1]
        check_names(names, f"{path}:{first[0]}")
        for number, spanned, cells in rows:
            del cells[max(len(names), _filled(cells)) :]
            before = _before(path, number, spanned)
            if len(cells) > len(names):
                raise SourceError(
                    f"{before}{number}: more cells than columns; put texts with {_SEPARATORS[separator]} in quotes"
                )
            values = [None if cell in _MISSING else cell for cell in cells]
            yield before, number, dict(zip(names, [*values, *[None] * (len(names) - len(cells))], strict=True))


def _filled(cells: Sequence[str]) -> int:
    """How many cells there are without the empty ones at the end, which spreadsheets write behind their columns."""
    return next((place for place in range(len(cells), 0, -1) if cells[place - 1].strip()), 0)


def _before(path: Path | str, line: int, spanned: int) -> str:
    """What stands before a line's number in a row's place: the row's too, where a spreadsheet has another one."""
    return f"{path}:row {line - spanned}, line " if spanned else f"{path}:"


def check_names(names: Sequence[str], place: str) -> None:
    """See that no two columns have one name: all but one would be lost without a word.

    Raises:
        SourceError: two do.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"{place}: two columns are called {twice!r}; rename one of them")


def header_cells(header: str, usual: str) -> list[str]:
    """The names in a header, by the separator that it has.

    Args:
        header: the first line.
        usual: the separator that the file's name stands for.
    """
    return next(csv.reader([header], delimiter=_separator(header, usual)), [])


def _separator(header: str, usual: str) -> str:
    for separator in (usual, *_SEPARATORS):
        if len(next(csv.reader([header.replace("\r", " ")], delimiter=separator))) > 1:
            return separator
    return usual


def _csv_rows(lines: Iterator[str], separator: str, start: int, path: Path | str) -> Iterator[_Cells]:
    header = next(lines, "")
    spaced = separator == "," and _SPACED.fullmatch(header) is not None
    reader = csv.reader(chain([header], lines), delimiter=separator, strict=True, skipinitialspace=spaced)
    spanned = 0
    while True:
        number = start + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = str(error)
            if problem == "unexpected end of data":
                problem = "a quote opens in this row and is never closed"
            elif "expected after" in problem:
                problem = f"a quote is closed and text follows it in line {start + reader.line_num - 1}"
            raise SourceError(
                f"{_before(path, number, spanned)}{number}: not CSV ({problem}); write quotes within a text twice, or "
                "the table as JSON Lines"
            ) from None
        if cells:
            yield number, spanned, cells
        spanned += start + reader.line_num - number - 1


def _tab_rows(lines: Iterator[str], start: int) -> Iterator[_Cells]:
    ahead: deque[str] = deque()  # lines that were looked at and belong to rows of their own
    width = 0
    number, within = start - 1, 0
    while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
        number += 1
        if _is_blank(line):
            continue
        cells = line.rstrip("\r\n").split("\t")
        width = width or len(cells)
        if '"' not in line:
            yield number, within, cells
            continue
        spanned: list[str] = []
        if any(cell.startswith('"') and not _QUOTED.fullmatch(cell) for cell in cells):
            record = _quoted_record(line, chain(_drained(ahead), lines), spanned)
            fit = all(_is_blank(one) or one.count("\t") + 1 == width for one in (line, *spanned))
            if record is not None and len(record) == width and not fit:
                yield number, within, record
                number += len(spanned)
                within += len(spanned)
                continue
            ahead.extendleft(reversed(spanned))
        yield number, within, [unquoted(cell) for cell in cells]


def unquoted(cell: str) -> str:
    """A cell of a line; one that is quoted from end to end, as CSV quotes, loses its quotes."""
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell


def _quoted_record(line: str, further: Iterator[str], spanned: list[str]) -> list[str] | None:
    """What a line is where quotes hold tabs and line ends; None where it is no such row.

    Args:
        line: where it begins.
        further: the lines after it.
        spanned: takes the further lines that were read for it.
    """

    def read() -> Iterator[str]:
        yield line
        for one in further:
            spanned.append(one)
            yield one

    try:
        return next(csv.reader(read(), delimiter="\t", strict=True))
    except csv.Error:
        return None


def _drained(lines: deque[str]) -> Iterator[str]:
    while lines:
        yield lines.popleft()


def _is_blank(line: str) -> bool:
    return not line.strip("\r\n")
