"""Tables of ids and texts: a corpus, or queries, in any common format.

JSON lines, CSV and Parquet name their columns; a .tsv or .txt file may go without a header, as MS MARCO's do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from multigrain.errors import EvaluationError
from multigrain.sources.files import read_rows

__all__ = ["DOCUMENT_IDS", "QUERY_IDS", "TABLE_SUFFIXES", "numbered_lines", "read_texts"]

TABLE_SUFFIXES: Final = (".jsonl", ".csv", ".tsv", ".parquet", ".txt")
"""Of files that `read_texts` reads."""

QUERY_IDS: Final = ("query-id", "query_id", "queryid", "qid")
DOCUMENT_IDS: Final = ("corpus-id", "corpus_id", "doc_id", "doc-id", "docid", "document_id", "docno", "pid")

_IDS: Final = ("_id", "id", *QUERY_IDS, *DOCUMENT_IDS)
_TEXTS: Final = ("text", "query", "question", "passage", "contents", "content", "document", "body")


def read_texts(path: Path) -> dict[str, str]:
    """Read a table of ids and texts. A document's text is its title, where it has one, a space and its text.

    Raises:
        EvaluationError: a malformed line, a line without an id or text, or an id that is there twice.
        SourceError: a .csv or .parquet file cannot be read.
    """
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, record in _records(path):
        at = f"{path}:{number}"
        key = next((record[name] for name in _IDS if record.get(name) is not None), None)
        if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
            raise EvaluationError(f"{at}: expected an `_id`, got {str(dict(record))[:60]}")
        first = lines.setdefault(str(key), number)
        if first != number:
            raise EvaluationError(f"{at}: id {str(key)!r} is taken by line {first}; make ids unique")
        parts = (_text(record, "title", at), _text(record, _text_column(record), at))
        texts[str(key)] = " ".join(part for part in parts if part)
    return texts


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not empty, with their numbers; one at a time.

    Raises:
        EvaluationError: the file cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with path.open("rb") as handle:
            for number, raw in enumerate(handle, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if line:
                    yield number, line
    except UnicodeDecodeError:
        raise EvaluationError(f"{path}:{number}: not UTF-8 text; convert the file to UTF-8") from None
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from None


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise EvaluationError(f"{path}: cannot tell what it holds; expected one of {', '.join(TABLE_SUFFIXES)}")
    if suffix == ".jsonl":
        return _json_lines(path)
    if suffix in (".tsv", ".txt") and not _has_header(path):
        return _plain_lines(path)
    return read_rows(path)


def _has_header(path: Path) -> bool:
    _, first = next(numbered_lines(path), (0, ""))
    names = {field.strip().lower() for field in first.split("\t")}
    return path.suffix.lower() == ".tsv" and bool(names & set(_IDS) or names & set(_TEXTS) - {first})


def _plain_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in numbered_lines(path):
        key, tab, text = line.partition("\t")
        if not tab:
            raise EvaluationError(f"{path}:{number}: expected an id, a tab and a text, got {line[:60]!r}")
        yield number, {"_id": key.strip(), "text": text.replace("\t", " ")}


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line number and object, one at a time: a corpus may be larger than memory allows to hold twice."""
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise EvaluationError(f"{path}:{number}: expected an object with an `_id`, got {line[:60]!r}")
        yield number, record


def _text_column(record: Mapping[str, Any]) -> str:
    return next((name for name in _TEXTS if name in record), "text")


def _text(record: Mapping[str, Any], field: str, at: str) -> str:
    value = record.get(field, "" if field == "title" else None)
    if value is None and field == "title":
        return ""
    if not isinstance(value, str):
        raise EvaluationError(f"{at}: `{field}` must be a text, got {value!r}")
    return value.strip()
