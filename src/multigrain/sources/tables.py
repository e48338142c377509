"""Documents from the rows of one table, or of a data set of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import unescape
from itertools import islice
from typing import Final

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import Document
from multigrain.sources.files import existing_path
from multigrain.sources.html import has_markup, looks_like_html
from multigrain.sources.rich import read_html
from multigrain.sources.source import DataSource
from multigrain.sources.words import fold_repeated
from multigrain.storage.columns import OWN_ID, PASSAGE, TITLE, Column
from multigrain.storage.entries import pair_columns
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import Row, read_rows

_TEXT_OPTION: Final = "documents.text_field"
_LOOKED_AT: Final = 1_000  # rows whose columns are told


class TableSource(DataSource):
    """A document a row.

    Args:
        kind: what the table holds; see `storage.rows.row_kind`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def read(self, config: DocumentsConfig) -> tuple[Iterable[Document], int]:
        """Read the rows as they are asked for, once.

        Raises (while reading):
            SourceError: the table is unreadable, not UTF-8, malformed at some line, holds no text column, or repeats
                an id.
            MissingExtraError: texts are to be read as HTML, and what reads it is not installed.
        """
        return _documents(read_rows(existing_path(config.path, "documents.path"), self._kind), config), 0

    def notes(self, config: DocumentsConfig) -> Iterable[str]:
        """The columns that are not used, and whether texts look like HTML, by the first rows."""
        path = existing_path(config.path, "documents.path")
        reading = Reading()
        columns = _columns(config)
        used = using(*columns)
        pages = 0
        for row in islice(read_rows(path, self._kind), _LOOKED_AT):
            reading.see(row, used)
            text = row.first(columns[0])
            pages += isinstance(text, str) and looks_like_html(text)
        if config.text_format == "plain" and pages > reading.rows / 2:
            reading.remark(
                f"texts look like HTML in {pages:,} of {reading.rows:,} rows; set documents.text_format: html to read "
                "them without tags"
            )
        return reading.lines(path.name)


class _HubSource(TableSource):
    """A data set of the hub, which a look does not fetch."""

    def glance(self, config: DocumentsConfig) -> str:
        return f"{config.path} on the hub, not looked at"


def _columns(config: DocumentsConfig) -> tuple[Column | str, Column | str, Column | str | None]:
    """The columns with text, id and title."""
    title = None if config.title_field is None else TITLE.unless(config.title_field)
    return PASSAGE.unless(config.text_field), OWN_ID.unless(config.id_field), title


def _documents(rows: Iterable[Row], config: DocumentsConfig) -> Iterator[Document]:
    identifiers: set[str] = set()
    text_column, id_column, title_column = _columns(config)
    for row in rows:
        if isinstance(text_column, Column) and text_column.among(row.values) is None:
            _refuse_pairs(row, text_column)
        text = row.text(text_column, option=_TEXT_OPTION)
        identifier = row.identifier(id_column) or f"row-{row.number}"
        if identifier in identifiers:
            raise SourceError(f"{row.place}: id {identifier!r} appears twice; ids must be unique")
        title = _title(row.first(title_column))
        identifiers.add(identifier)
        if config.text_format == "html":
            title, text = _from_html(title, text or "")
        yield Document(id=identifier, text=text or "", title=title)


def _title(value: object) -> str | None:
    """A title as text; numbers are titles, too, e.g. a year."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas makes 2024.0 of it where another row has none
    return str(value).strip() or None


def _from_html(title: str | None, text: str) -> tuple[str | None, str]:
    """The title, and the text as a page shows it; a heading in it that says something else stays."""
    shown = unescape(title) if title is not None else None
    if not has_markup(text):
        return shown, text
    page_title, heading, words = read_html(text)
    if shown is not None and heading is not None and fold_repeated(shown) != fold_repeated(heading):
        words = f"# {heading}\n\n{words}"
    return shown or heading or page_title, words


def _refuse_pairs(row: Row, text: Column) -> None:
    """Say what to do with a table that has, or may have, queries and answers, and no column with a text."""
    columns = pair_columns(row.values)
    if columns is not None:
        raise SourceError(
            f"{row.place}: queries with their answers ({columns[0]!r}, {columns[1]!r}): set start_from: pairs and "
            f"pairs.path; or documents.text_field: {columns[1]}, and queries are written for the answers"
        )
    if len(row.values) > 1:
        try:
            row.column(text, option=_TEXT_OPTION)
        except SourceError as error:
            raise SourceError(
                f"{error}; or, if these are questions and answers, set start_from: pairs with pairs.query_field and "
                "pairs.positive_field"
            ) from None


JSONL: Final = TableSource("jsonl")
JSON: Final = TableSource("json")
CSV: Final = TableSource("csv")
TSV: Final = TableSource("tsv")
PARQUET: Final = TableSource("parquet")
HUB: Final = _HubSource("hub")
