"""Documents from a folder, from one JSONL, CSV, TSV or Parquet file, or from a data set of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from multigrain.config import DocumentsConfig
from multigrain.config.location import is_hub
from multigrain.display.suggest import near_path
from multigrain.errors import SourceError
from multigrain.records import Document
from multigrain.sources.folder import READ_SUFFIXES, folder_files, read_folder
from multigrain.storage.hub import hub_fingerprint
from multigrain.storage.rows import ROW_KINDS, Row, open_rows, read_rows, row_kind
from multigrain.storage.shards import is_table

__all__ = ["existing_path", "files_fingerprint", "read_files", "read_rows"]


def read_files(config: DocumentsConfig) -> tuple[Iterable[Document], int]:
    """Read the documents at `config.path`.

    Returns:
        The documents, which are read as they are asked for, once; and how many files were skipped because they held
        no text.

    Raises:
        SourceError: the path is missing, of an unknown kind, unreadable, not UTF-8, malformed at some line,
            holds no text column, repeats an id, or holds no document at all.
        MissingExtraError: there are HTML, PDF or Word files, and what reads them is not installed.
    """
    path = existing_path(config.path, "documents.path")
    kind = config.kind if config.kind != "auto" else _kind_of(path)
    if kind == "folder":
        return read_folder(path, unreadable=config.unreadable)
    return _documents(open_rows(path, kind), config), 0


def files_fingerprint(path: Path) -> str:
    """A hash over the names, sizes and times of change of the files at a path."""
    if is_hub(path):
        return hub_fingerprint(path)
    files = [path] if path.is_file() else sorted(path.iterdir()) if is_table(path) else folder_files(path)
    seen = hashlib.sha256()
    for each in files:
        status = each.stat()
        seen.update(f"{each.relative_to(path.parent)}\x1f{status.st_size}\x1f{status.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def existing_path(path: Path | None, option: str) -> Path:
    """A path that is there, or that names a data set of the hub.

    Args:
        path: as configured.
        option: the config key, for the message.

    Raises:
        SourceError: it is not set, or not there.
    """
    if path is None:
        raise SourceError(
            f"{option} is not set: give a folder of files, a .jsonl, .csv or .parquet file, or hf:OWNER/NAME"
        )
    if not is_hub(path) and not path.exists():
        raise SourceError(f"{option} {path}: no such file or folder{near_path(path)}")
    return path


def _kind_of(path: Path) -> str:
    kind = "folder" if path.is_dir() and not is_table(path) else row_kind(path)
    if kind is None:
        hint = "give the folder it is in, or" if path.suffix.lower() in READ_SUFFIXES else "expected a folder or"
        raise SourceError(
            f"documents.path {path}: cannot tell what it holds; {hint} one of {', '.join(ROW_KINDS)}, hf:OWNER/NAME"
        )
    return kind


def _documents(rows: Iterable[Row], config: DocumentsConfig) -> Iterator[Document]:
    seen: set[str] = set()
    for row in rows:
        text = row.text(config.text_field, option="documents.text_field")
        identifier = row.identifier(config.id_field) or f"row-{row.number}"
        if identifier in seen:
            raise SourceError(f"{row.place}: id {identifier!r} appears twice; ids must be unique")
        title = row.values.get(config.title_field) if config.title_field else None
        seen.add(identifier)
        yield Document(id=identifier, text=text or "", title=title.strip() or None if isinstance(title, str) else None)
