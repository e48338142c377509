"""Data sources: what a kind of `documents.kind` is, of this package or of another; and a glance at a run's input.

A package adds one by an entry point of the group `multigrain.sources` that names a `DataSource`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from multigrain.config import Config, DocumentsConfig
from multigrain.config.documents import DATA_SOURCES
from multigrain.config.paths import is_hub
from multigrain.errors import ConfigError, MultigrainError, SourceError
from multigrain.records import Document
from multigrain.sources.files import READ_SUFFIXES, existing_path, files_fingerprint, table_kind
from multigrain.storage.files import unpack_hint
from multigrain.storage.rows import ROW_KINDS, read_rows
from multigrain.storage.shards import is_table

_ENOUGH: Final = 10
_MANY: Final = 10_000  # documents; more of them are not counted: a glance is no reading


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

    def notes(self, config: DocumentsConfig) -> Iterable[str]:
        """What is to be told of the source once it was looked at or read, e.g. which columns nobody used."""
        return ()

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
    kind = table_kind(path) or ("folder" if path.is_dir() and not is_table(path) else None)
    if kind is None and (hint := unpack_hint(path)):
        raise SourceError(f"documents.path {path}: {hint}")
    if kind is None:
        hint = "give the folder it is in, or" if path.suffix.lower() in READ_SUFFIXES else "expected a folder or"
        raise SourceError(
            f"documents.path {path}: cannot tell what it holds; {hint} one of {', '.join(ROW_KINDS)}, hf:OWNER/NAME"
        )
    return kind


@dataclass(frozen=True, slots=True)
class Glance:
    """What a look at the input shows.

    Attributes:
        summary: in words: how many documents, and where.
        error: why a run would end at once; None where it would not.
        notes: what else is to be told of the documents, see `DataSource.notes`.
    """

    summary: str
    error: MultigrainError | None = None
    notes: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """The error in words; empty where there is none."""
        return "" if self.error is None else str(self.error)


def look_at_input(config: Config) -> Glance:
    """Look at what a config starts from. Reads at most some thousand documents, and no hub.

    The rows of a table of pairs are counted; other pairs, and tasks, are looked for, and read by the run itself.
    """
    if config.start_from == "documents":
        return look_at_documents(config.documents)
    path = config.pairs.path if config.start_from == "pairs" else config.tasks.path
    if path is None:
        return Glance("the language model thinks of the tasks")
    try:
        existing_path(path, f"{config.start_from}.path")
        if config.start_from != "pairs" or is_hub(path) or table_kind(path) is None:
            return Glance(f"{config.start_from} in {_shown(path)}")
        rows = sum(1 for _ in islice(read_rows(path), _MANY))
        count = f"{_count(rows)} row{'' if rows == 1 else 's'} in {_shown(path)}"
        few = SourceError(f"pairs.path {path}: {rows} rows found; at least {_ENOUGH} are needed")
        return Glance(count, few if rows < _ENOUGH else None)
    except SourceError as error:
        return Glance(str(path), error)


def look_at_documents(config: DocumentsConfig) -> Glance:
    """Look at the documents that a config names."""
    try:
        source = data_source(config)
        view = source.glance(config)
        if isinstance(view, str):
            return Glance(view)
        texts, closed = view
        described = source.describe(config)
        where = _shown(config.path) if config.path is not None and described == str(config.path) else described
        judged = _judge(config, texts, where, unseen=closed)
        return replace(judged, notes=tuple(source.notes(config)))
    except MultigrainError as error:
        return Glance("" if config.path is None else str(config.path), error)


def _judge(config: DocumentsConfig, texts: Iterable[str], source: str, *, unseen: int) -> Glance:
    """Count texts that are long enough, and take it that files which are not looked into are."""
    total = usable = unseen
    for text in texts:
        total += 1
        usable += len(text.strip()) >= config.min_characters
        if total >= _MANY:
            break
    many = _count(total)
    count = f"{many} document{'' if total == 1 else 's'} in {source}"
    short = "" if usable == total else f", {usable} of at least documents.min_characters={config.min_characters}"
    if usable >= _ENOUGH:
        return Glance(count + short)
    few = f"documents.path {source}: {many} found{short}; at least {_ENOUGH} are needed"
    return Glance(count, SourceError(few))


def _count(total: int) -> str:
    return f"{total:,} or more" if total >= _MANY else f"{total:,}"


def _shown(path: Path) -> str:
    """A path without what leads back up in it: `/a/../b/texts` is `/b/texts`."""
    return str(path.resolve() if ".." in path.parts and not is_hub(path) else path)
