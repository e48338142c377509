"""Data sources: what a kind of `documents.kind` is, of this package or of another.

A package adds one by an entry point of the group `multigrain.sources` that names a `DataSource`.
"""

from __future__ import annotations

from collections.abc import Iterable

from multigrain.config import DocumentsConfig
from multigrain.config.documents import DATA_SOURCES
from multigrain.errors import ConfigError, SourceError
from multigrain.records import Document
from multigrain.sources.files import READ_SUFFIXES, existing_path, files_fingerprint
from multigrain.storage.rows import ROW_KINDS, row_kind
from multigrain.storage.shards import is_table


class DataSource:
    """Where documents come from. A source of its own overrides `read`, and what else is not as it is here."""

    def read(self, config: DocumentsConfig) -> tuple[Iterable[Document], int]:
        """Read the documents.

        Returns:
            The documents, which may be gone through once; and how many files were skipped because they held no text.

        Raises:
            SourceError: they cannot be read.
            MissingExtraError: what reads them is not installed.
        """
        raise NotImplementedError

    def fingerprint(self, config: DocumentsConfig) -> str:
        """A text that changes when the documents may have changed; reads no content.

        Raises:
            SourceError: there is nothing at `documents.path`.
        """
        return files_fingerprint(existing_path(config.path, "documents.path"))

    def describe(self, config: DocumentsConfig) -> str:
        """What counts and errors call the source."""
        return str(config.path)

    def glance(self, config: DocumentsConfig) -> tuple[Iterable[str], int] | str:
        """A look before a run starts.

        Returns:
            Texts, and how many files stay closed because reading them takes long; or what is said instead of a
            count, where texts cannot be had at once.

        Raises:
            SourceError: they cannot be read.
            MissingExtraError: what reads them is not installed.
        """
        documents, _ = self.read(config)
        return (document.text for document in documents), 0


def data_source(config: DocumentsConfig) -> DataSource:
    """The source that a config names, or that its path tells of.

    Raises:
        ConfigError: the package that has it cannot be imported, or what it offers is no data source.
        SourceError: there is nothing at the path, or its name does not tell what it holds.
    """
    source = DATA_SOURCES.get(_kind(config) if config.kind == "auto" else config.kind)
    if not isinstance(source, DataSource):
        raise ConfigError(
            f"documents.kind {config.kind!r}: its entry point names {type(source).__name__}, which is no DataSource"
        )
    return source


def _kind(config: DocumentsConfig) -> str:
    path = existing_path(config.path, "documents.path")
    kind = "folder" if path.is_dir() and not is_table(path) else row_kind(path)
    if kind is None:
        hint = "give the folder it is in, or" if path.suffix.lower() in READ_SUFFIXES else "expected a folder or"
        raise SourceError(
            f"documents.path {path}: cannot tell what it holds; {hint} one of {', '.join(ROW_KINDS)}, hf:OWNER/NAME"
        )
    return kind
