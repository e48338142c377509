"""Documents from the rows of one table, or of a data set of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import Document
from multigrain.sources.files import existing_path
from multigrain.sources.source import DataSource
from multigrain.storage.rows import Row, read_rows


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


class _HubSource(TableSource):
    """A data set of the hub, which a look does not fetch."""

    def glance(self, config: DocumentsConfig) -> str:
        return f"{config.path} on the hub, not looked at"


def _documents(rows: Iterable[Row], config: DocumentsConfig) -> Iterator[Document]:
    identifiers: set[str] = set()
    for row in rows:
        text = row.text(config.text_field, option="documents.text_field")
        identifier = row.identifier(config.id_field) or f"row-{row.number}"
        if identifier in identifiers:
            raise SourceError(f"{row.place}: id {identifier!r} appears twice; ids must be unique")
        title = row.values.get(config.title_field) if config.title_field else None
        identifiers.add(identifier)
        yield Document(id=identifier, text=text or "", title=title.strip() or None if isinstance(title, str) else None)


JSONL: Final = TableSource("jsonl")
JSON: Final = TableSource("json")
CSV: Final = TableSource("csv")
TSV: Final = TableSource("tsv")
PARQUET: Final = TableSource("parquet")
HUB: Final = _HubSource("hub")
