"""Documents from files: a folder of text and Markdown, or one JSONL, CSV, TSV or Parquet file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import Document

__all__ = ["read_files", "read_rows"]

_TEXT_SUFFIXES: Final = (".md", ".markdown", ".rst", ".txt")
_MARKDOWN: Final = (".md", ".markdown")
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)\n---[ \t]*(?:\n|\Z)", re.S)
_HEADING: Final = re.compile(r"\A\s*(?:#{1,6}[ \t]+(?P<hash>[^\n]+)\n|(?P<underlined>[^\n]+)\n(?:=|-){3,}[ \t]*\n)")
_MAX_CSV_FIELD: Final = 16_000_000
_RUN_MARK: Final = "documents/manifest.json"
_ROW_KINDS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


def read_files(config: DocumentsConfig) -> list[Document]:
    """Read the documents at `config.path`.

    Raises:
        SourceError: the path is missing, of an unknown kind, unreadable, not UTF-8, malformed at some line,
            holds no text column, repeats an id, or holds no document at all.
    """
    path = _existing_path(config)
    kind = config.kind if config.kind != "auto" else _kind_of(path)
    if kind == "folder":
        return list(_read_folder(path))
    return _documents(_ROW_READERS[kind](path), config, path)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read any table: the rows of a JSONL, CSV, TSV or Parquet file, each with its line number.

    Raises:
        SourceError: the file is of another kind, unreadable, not UTF-8, or malformed at some line.
    """
    if path.suffix.lower() not in _ROW_KINDS:
        raise SourceError(f"{path}: cannot tell what it holds; expected one of {', '.join(_ROW_KINDS)}")
    return _ROW_READERS[_ROW_KINDS[path.suffix.lower()]](path)


def files_fingerprint(config: DocumentsConfig) -> str:
    """A hash over the names, sizes and times of change of the files at `config.path`.

    Raises:
        SourceError: the path is missing.
    """
    path = _existing_path(config)
    files = [path] if path.is_file() else _text_files(path)
    seen = hashlib.sha256()
    for each in files:
        status = each.stat()
        seen.update(f"{each.relative_to(path.parent)}\x1f{status.st_size}\x1f{status.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def _existing_path(config: DocumentsConfig) -> Path:
    if config.path is None:
        raise SourceError("documents.path is not set: give a folder of .md/.txt files, or a .jsonl, .csv or .parquet")
    if not config.path.exists():
        raise SourceError(f"documents.path {config.path}: no such file or folder")
    return config.path


def _kind_of(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if path.suffix.lower() not in _ROW_KINDS:
        raise SourceError(
            f"documents.path {path}: cannot tell what it holds; expected a folder or one of {', '.join(_ROW_KINDS)}"
        )
    return _ROW_KINDS[path.suffix.lower()]


def _read_folder(folder: Path) -> Iterator[Document]:
    if not folder.is_dir():
        raise SourceError(f"documents.path {folder}: not a folder; set documents.kind to what it holds")
    paths = _text_files(folder)
    if not paths:
        raise SourceError(f"documents.path {folder}: no {', '.join(_TEXT_SUFFIXES)} file in the folder")
    for path in paths:
        title, text = _front_matter(_read_text(path)) if path.suffix.lower() in _MARKDOWN else (None, _read_text(path))
        heading = _HEADING.match(text) if path.suffix.lower() != ".txt" else None
        if heading is not None:
            title = title or (heading["hash"] or heading["underlined"]).strip().rstrip("#").strip()
            text = text[heading.end() :]
        yield Document(id=path.relative_to(folder).as_posix(), text=text.strip(), title=title or None)


def _front_matter(text: str) -> tuple[str | None, str]:
    """The title that a Markdown file's YAML front matter gives, and the text without the front matter."""
    found = _FRONT_MATTER.match(text)
    if found is None:
        return None, text
    try:
        values = yaml.safe_load(found["yaml"])
    except yaml.YAMLError:
        return None, text  # a rule and some text between two dashed lines, and no front matter
    title = values.get("title") if isinstance(values, dict) else None
    return (title.strip() or None) if isinstance(title, str) else None, text[found.end() :]


def _text_files(folder: Path) -> list[Path]:
    """The folder's text files, without what hidden folders and run directories hold."""
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not (here / name / _RUN_MARK).is_file()
        )
        found += [
            here / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in _TEXT_SUFFIXES
        ]
    return sorted(found)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: not UTF-8 (byte {error.object[error.start]:#04x} at offset {error.start}); convert it, e.g. "
            f"`iconv -f latin1 -t utf8`"
        ) from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SourceError(f"{path}, line {number}: not JSON ({error}): {line[:60]!r}") from None
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {number}: expected an object, got {type(row).__name__}: {line[:60]!r}")
        yield number, row


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_MAX_CSV_FIELD)
    reader = csv.DictReader(
        # Not splitlines(): it would also split at characters that are text, such as U+2028.
        io.StringIO(_read_text(path), newline=""),
        delimiter="\t" if path.suffix.lower() == ".tsv" else ",",
    )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a Parquet file ({error})") from None
    yield from enumerate(table.to_pylist(), start=1)


_ROW_READERS: Final = {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}


def _documents(rows: Iterator[tuple[int, dict[str, Any]]], config: DocumentsConfig, path: Path) -> list[Document]:
    documents: dict[str, Document] = {}
    for number, row in rows:
        if config.text_field not in row:
            columns = ", ".join(repr(name) for name in row)
            raise SourceError(
                f"{path}, line {number}: no column {config.text_field!r}; documents.text_field can be {columns}"
            )
        text = row[config.text_field]
        if text is not None and not isinstance(text, str):
            raise SourceError(f"{path}, line {number}: {config.text_field!r} is {type(text).__name__}, not text")
        given = row.get(config.id_field)
        identifier = f"row-{number}" if given is None or given == "" else str(given)
        if identifier in documents:
            raise SourceError(f"{path}, line {number}: id {identifier!r} appears twice; ids must be unique")
        title = row.get(config.title_field) if config.title_field else None
        documents[identifier] = Document(
            id=identifier, text=(text or "").strip(), title=title.strip() or None if isinstance(title, str) else None
        )
    return list(documents.values())
