"""Documents from the rows of one table, or of a data set of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import Document
from multigrain.sources.files import existing_path
from multigrain.sources.source import DataSource
from multigrain.storage.columns import OWN_ID, PASSAGE, TITLE, Column, no_column, pair_columns
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
        """
        return _documents(read_rows(existing_path(config.path, "documents.path"), self._kind), config), 0

    def notes(self, config: DocumentsConfig) -> Iterable[str]:
        """The columns that are not used, by the first rows."""
        path = existing_path(config.path, "documents.path")
        reading = Reading()
        used = using(*_columns(config))
        for row in islice(read_rows(path, self._kind), _LOOKED_AT):
            reading.see(row, used)
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
        title = row.first(title_column)
        identifiers.add(identifier)
        yield Document(id=identifier, text=text or "", title=title.strip() or None if isinstance(title, str) else None)


def _refuse_pairs(row: Row, text: Column) -> None:
    """Say what to do with a table that has, or may have, queries and answers, and no column with a text."""
    columns = pair_columns(row.values)
    if columns is not None:
        raise SourceError(
            f"{row.place}: queries with their answers ({columns[0]!r}, {columns[1]!r}): set start_from: pairs and "
            f"pairs.path; or documents.text_field: {columns[1]}, and queries are written for the answers"
        )
    if len(row.values) > 1:
        raise SourceError(
            f"{row.place}: {no_column(text, row.values, option=_TEXT_OPTION)}; or, if these are questions and "
            "answers, set start_from: pairs with pairs.query_field and pairs.positive_field"
        )


JSONL: Final = TableSource("jsonl")
JSON: Final = TableSource("json")
CSV: Final = TableSource("csv")
TSV: Final = TableSource("tsv")
PARQUET: Final = TableSource("parquet")
HUB: Final = _HubSource("hub")
