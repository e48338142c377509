"""Tables row by row: JSONL, CSV, TSV and Parquet files, and data sets of the Hugging Face hub."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from multigrain.config.location import is_hub
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.storage.hub import read_hub
from multigrain.storage.shards import MANIFEST_NAME, table_files

__all__ = ["ROW_KINDS", "NotTextError", "Row", "open_rows", "read_rows", "read_text", "row_kind"]

ROW_KINDS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
"""What a table's file name ends on, and what it then holds."""

_MAX_CSV_FIELD: Final = 16_000_000
_LOT: Final = 4_096
_LOOKED_AT: Final = 8_192
_CONTROL_SHARE: Final = 0.05
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\v\b\x1b\x1a")


class NotTextError(SourceError):
    """A file that holds no text that can be read. Among many it can be skipped."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        place: where it stands, for error messages: "pairs.jsonl, line 3".
        number: its line or row, from 1.
        values: by column.
    """

    place: str
    number: int
    values: dict[str, Any]

    def text(self, column: str, *, option: str) -> str | None:
        """The text in a column, or None where it is empty.

        Args:
            column: its name.
            option: the config key that names the column.

        Raises:
            SourceError: there is no such column, or it holds something else.
        """
        value = self.value(column, option=option)
        if value is not None and not isinstance(value, str):
            raise SourceError(f"{self.place}: {column!r} is {type(value).__name__}, not text")
        return value.strip() or None if value is not None else None

    def texts(self, column: str, *, option: str) -> list[str]:
        """The texts in a column that holds a text, or a list of texts.

        Raises:
            SourceError: there is no such column, or it holds something else.
        """
        value = self.value(column, option=option)
        found = value if isinstance(value, list) else [] if value is None else [value]
        wrong = [each for each in found if not isinstance(each, str)]
        if wrong:
            raise SourceError(
                f"{self.place}: {column!r} holds {type(wrong[0]).__name__}; it must be a text or a list of texts"
            )
        return [each.strip() for each in found if each.strip()]

    def value(self, column: str, *, option: str) -> Any:
        """What a column holds.

        Raises:
            SourceError: there is no such column.
        """
        if column not in self.values:
            columns = ", ".join(repr(name) for name in self.values)
            raise SourceError(f"{self.place}: no column {column!r}; {option} can be {columns}")
        return self.values[column]

    def identifier(self, column: str | None) -> str | None:
        """The id in a column, as text; None where there is no such column, or nothing in it."""
        value = self.values.get(column) if column is not None else None
        return None if value is None or value == "" else str(value)


def row_kind(path: Path) -> str | None:
    """What a table holds, by its name: "jsonl", "csv", "parquet" or "hub"; None where the name does not tell."""
    return "hub" if is_hub(path) else ROW_KINDS.get(path.suffix.lower())


def open_rows(path: Path, kind: str) -> Iterator[Row]:
    """Read a table of a given kind.

    Args:
        path: the file, or `hf:OWNER/NAME…`.
        kind: one of those that `row_kind` tells.

    Raises:
        SourceError: it is unreadable, not UTF-8, or malformed at some line.
    """
    if kind == "hub":
        for number, values in enumerate(read_hub(path), start=1):
            yield Row(f"{path}, row {number}", number, values)
        return
    for number, values in _READERS[kind](path):
        yield Row(f"{path}, line {number}", number, values)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read any table: a JSONL, CSV, TSV or Parquet file, or a folder of Parquet shards; rows with their line numbers.

    Raises:
        SourceError: the file is of another kind, unreadable, not UTF-8, or malformed at some line.
    """
    if path.suffix.lower() not in ROW_KINDS:
        raise SourceError(f"{path}: cannot tell what it holds; expected one of {', '.join(ROW_KINDS)}")
    return _READERS[ROW_KINDS[path.suffix.lower()]](path)


def read_text(path: Path) -> str:
    """A whole UTF-8 file.

    Raises:
        NotTextError: it is not UTF-8, or no text at all.
        SourceError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        if _is_binary(error.object):
            raise NotTextError(f"{path}: not text, by what it holds; take it out of there") from None
        raise NotTextError(
            f"{path}: not UTF-8 (byte {error.object[error.start]:#04x} at offset {error.start}); convert it, e.g. "
            f"`iconv -f latin1 -t utf8`"
        ) from None
    except FileNotFoundError:
        if path.is_symlink():
            raise NotTextError(f"{path}: a link to nothing; mend it or remove it") from None
        raise SourceError(f"{path}: cannot be read (no such file)") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise NotTextError(f"{path}: not text, by what it holds; take it out of there")
    return text


def _is_binary(data: bytes) -> bool:
    """Whether bytes that are no UTF-8 are no text of another encoding either."""
    start = data[:_LOOKED_AT]
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False  # `iconv` has a cure for it
    control = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in start)
    return b"\0" in start or control > len(start) * _CONTROL_SHARE


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not split at other characters that end a line elsewhere, such as U+2028: in JSON they are text.
    with _text_stream(path, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            shown = repr(line.removesuffix("\n")[:60])
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SourceError(f"{path}, line {number}: not JSON ({error}): {shown}") from None
            if not isinstance(row, dict):
                raise SourceError(f"{path}, line {number}: expected an object, got {type(row).__name__}: {shown}")
            yield number, row


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_MAX_CSV_FIELD)
    with _text_stream(path, newline="") as stream:
        delimiter, between = ("\t", "tabs") if path.suffix.lower() == ".tsv" else (",", "commas")
        reader = csv.DictReader(stream, delimiter=delimiter)
        try:
            for row in reader:
                if None in row:  # where the reader keeps what no column has a name for: half of a text, mostly
                    raise SourceError(
                        f"{path}, line {reader.line_num}: more cells than columns; put texts with {between} in quotes"
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


@contextmanager
def _text_stream(path: Path, *, newline: str) -> Iterator[TextIO]:
    """A UTF-8 file to read bit by bit.

    Raises:
        SourceError: it is not UTF-8, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            yield stream
    except UnicodeDecodeError:
        read_text(path)  # says where: the stream knows the place within its buffer only
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    yield from enumerate((row for lot in _parquet_lots(path) for row in lot), start=1)


def _parquet_lots(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file or of a folder of shards, some thousand at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.is_dir() and not (path / MANIFEST_NAME).exists():  # somebody else's folder of Parquet files
            yield pq.read_table(path).to_pylist()
            return
        for file in table_files(path):
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(batch_size=_LOT):
                    yield batch.to_pylist()
    except RunDirectoryError as error:
        raise SourceError(str(error)) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a Parquet file ({error})") from None


_Reader = Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]
_READERS: Final[dict[str, _Reader]] = {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
