"""The one reader of tables: JSON, JSON Lines, CSV, TSV and Parquet, folders of Parquet files, and data sets.

Every row knows its place, which errors begin with: `path:LINE` in a text file, `path:row N` in any other table.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO

from multigrain.config.paths import is_hub
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.storage.columns import Column, no_column
from multigrain.storage.files import is_remote, open_binary
from multigrain.storage.hub import HubReference, is_saved, parse_hub, read_hub
from multigrain.storage.shards import MANIFEST_NAME, table_files

ROW_KINDS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""What a table's file name ends on, and what it then holds."""

_MAX_CSV_FIELD: Final = 16_000_000
_BATCH_ROWS: Final = 4_096
_LOOKED_AT: Final = 8_192
_CONTROL_SHARE: Final = 0.05
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\v\b\x1b\x1a")
_SHOWN: Final = 60  # characters of a line that cannot be read


class NotTextError(SourceError):
    """A file that holds no text that can be read. Among many it can be skipped."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        before: what stands before the number in the row's place: "pairs.jsonl:" or "pairs.parquet:row ".
        number: its line or row, from 1.
        values: by column.
    """

    before: str
    number: int
    values: dict[str, Any]

    @property
    def place(self) -> str:
        """Where it stands, for error messages: "pairs.jsonl:3"."""
        return f"{self.before}{self.number}"

    def column(self, column: Column | str, *, option: str = "") -> str:
        """The name that a column has in this row.

        Args:
            column: the column, or its very name.
            option: the config key or command-line option that names it.

        Raises:
            SourceError: there is none; the message names those there are.
        """
        name = column if isinstance(column, str) else column.among(self.values)
        if name is None or name not in self.values:
            raise SourceError(f"{self.place}: {no_column(column, self.values, option=option)}")
        return name

    def text(self, column: Column | str, *, option: str = "") -> str | None:
        """The text in a column without spaces around it; None where it is empty.

        Raises:
            SourceError: there is no such column, or it holds something else.
        """
        name = self.column(column, option=option)
        value = self.values[name]
        if value is None:
            return None
        if not isinstance(value, str):
            raise SourceError(f"{self.place}: {name!r} is {type(value).__name__}, not text")
        return value.strip() or None

    def texts(self, column: Column | str, *, option: str = "") -> list[str]:
        """The texts in a column that holds a text, or a list of texts; empty ones are left out.

        Raises:
            SourceError: there is no such column, or it holds something else.
        """
        name = self.column(column, option=option)
        value = self.values[name]
        texts = value if isinstance(value, list) else [] if value is None else [value]
        for text in texts:
            if not isinstance(text, str):
                raise SourceError(
                    f"{self.place}: {name!r} holds {type(text).__name__}; it must be a text or a list of texts"
                )
        return [text.strip() for text in texts if text.strip()]

    def first(self, column: Column | str | None) -> Any:
        """The first value that is there under one of a column's names; None where there is none."""
        names = () if column is None else (column,) if isinstance(column, str) else column.names
        values = (self.values.get(name) for name in names)
        return next((value for value in values if value is not None and value != ""), None)

    def identifier(self, column: Column | str | None) -> str | None:
        """The id in a column, as text; None where there is no such column, or nothing in it."""
        value = self.first(column)
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise SourceError(f"{self.place}: an id is a text or a number, got {str(value)[:_SHOWN]!r}")
        return str(value)


def row_kind(path: Path | str) -> str | None:
    """What a table holds, by its name: "hub", or one of `ROW_KINDS`; None where the name does not tell."""
    return "hub" if is_hub(Path(path)) else ROW_KINDS.get(Path(path).suffix.lower())


def read_rows(path: Path | str, kind: str | None = None, *, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Read a table, row by row as rows are asked for.

    Args:
        path: a file, a folder of Parquet files or one that `datasets` saved, `hf:OWNER/NAME…`, or an fsspec address.
        kind: what it holds; None to tell by its name.
        columns: the only columns to read; a Parquet file that has them all is then read in part.

    Raises:
        SourceError: it is of another kind, unreadable, not UTF-8, or malformed at some line.
    """
    if kind is None:
        is_folder = not is_remote(path) and Path(path).is_dir()
        kind = row_kind(path) or ("parquet" if is_folder else None)
    if kind is None:
        raise SourceError(f"{path}: cannot tell what it holds; expected one of {', '.join(ROW_KINDS)}")
    if kind == "hub":
        return read_data_set(parse_hub(Path(path)), str(path))
    if kind == "parquet":
        return _number(f"{path}:row ", _table_rows(_parquet_batches(path, columns), columns))
    before = f"{path}:"
    return (Row(before, number, values) for number, values in _TEXT_READERS[kind](path))


def read_data_set(reference: HubReference, shown: str) -> Iterator[Row]:
    """The rows of a data set of the hub, or of a folder that `datasets` saved.

    Args:
        reference: the data set.
        shown: what places call it.

    Raises:
        SourceError: there is no such data set, config or split, or it cannot be fetched.
    """
    return _number(f"{shown}:row ", _table_rows(read_hub(reference, shown), None))


def read_lines(path: Path | str) -> Iterator[Row]:
    """The lines of a UTF-8 file that are not empty, under the column "line"; one at a time.

    Raises:
        SourceError: it is not UTF-8, or cannot be read.
    """
    with _text_stream(path, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if text := line.strip():
                yield Row(f"{path}:", number, {"line": text})


def read_text(path: Path) -> str:
    """A whole UTF-8 file.

    Raises:
        NotTextError: it is not UTF-8, or no text at all.
        SourceError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except FileNotFoundError:
        if path.is_symlink():
            raise NotTextError(f"{path}: a link to nothing; mend it or remove it") from None
        raise SourceError(f"{path}: cannot be read (no such file)") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise NotTextError(f"{path}: not text, by what it holds; take it out of there")
    return text


def _number(before: str, rows: Iterator[dict[str, Any]]) -> Iterator[Row]:
    return (Row(before, number, values) for number, values in enumerate(rows, start=1))


@contextmanager
def _text_stream(path: Path | str, *, newline: str) -> Iterator[TextIO]:
    """A UTF-8 file to read bit by bit.

    Raises:
        SourceError: it is not UTF-8, or cannot be read.
    """
    try:
        with open_binary(path) as stream, TextIOWrapper(stream, encoding="utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError:  # the stream knows the place within its buffer only
        raise _not_utf8(path) from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None


def _not_utf8(path: Path | str) -> NotTextError:
    """The error about a file that is not UTF-8, with the first line that is not."""
    with open_binary(path) as stream:
        if _is_binary(stream.read(_LOOKED_AT)):
            return NotTextError(f"{path}: not text, by what it holds; take it out of there")
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return NotTextError(
                    f"{path}:{number}: not UTF-8 (byte {line[error.start]:#04x}); convert the file, e.g. "
                    "`iconv -f latin1 -t utf8`"
                )
    return NotTextError(f"{path}: not UTF-8; convert it, e.g. `iconv -f latin1 -t utf8`")


def _is_binary(start: bytes) -> bool:
    """Whether bytes that are no UTF-8 are no text of another encoding either."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False  # `iconv` has a cure for it
    control = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in start)
    return b"\0" in start or control > len(start) * _CONTROL_SHARE


def _read_json_lines(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not split at other characters that end a line elsewhere, such as U+2028: in JSON they are text.
    with _text_stream(path, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, _object(line, f"{path}:{number}")


def _read_json(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """One list of objects; or, as many a .json file has it, JSON lines."""
    with _text_stream(path, newline="\n") as stream:
        text = next((line for line in stream if line.strip()), "").lstrip()
        if not text.startswith("["):
            yield from _read_json_lines(path)
            return
        text += stream.read()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not JSON ({error}): {text[:_SHOWN]!r}") from None
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise SourceError(f"{path}:entry {number}: expected an object, got {type(value).__name__}")
        yield number, value


def _object(line: str, place: str) -> dict[str, Any]:
    shown = repr(line.removesuffix("\n")[:_SHOWN])
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{place}: not JSON ({error}): {shown}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{place}: expected an object, got {type(value).__name__}: {shown}")
    return value


def _read_csv(path: Path | str, delimiter: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = delimiter or ("\t" if str(path).lower().endswith(".tsv") else ",")
    csv.field_size_limit(_MAX_CSV_FIELD)
    with _text_stream(path, newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter)
        try:
            for row in reader:
                if None in row:  # where the reader keeps what no column has a name for: half of a text, mostly
                    between = "tabs" if delimiter == "\t" else "commas"
                    raise SourceError(
                        f"{path}:{reader.line_num}: more cells than columns; put texts with {between} in quotes"
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise SourceError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def _table_rows(batches: Iterator[Any], columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The rows of Arrow tables or record batches."""
    for batch in batches:
        selection = _selection(batch.schema.names, columns)
        yield from (batch if selection is None else batch.select(selection)).to_pylist()


def _parquet_batches(path: Path | str, columns: Sequence[str] | None) -> Iterator[Any]:
    """The rows of a file, of a table of shards or of a folder, some thousand at a time."""
    import pyarrow as pa

    try:
        if is_remote(path) or not Path(path).is_dir():
            with open_binary(path) as stream:
                yield from _file_batches(stream, columns)
        elif (Path(path) / MANIFEST_NAME).exists():
            for file in table_files(Path(path)):
                yield from _file_batches(file, columns)
        elif is_saved(Path(path)):
            yield from read_hub(HubReference(str(path), None, None, None), str(path))
        else:
            yield from _folder_batches(Path(path))
    except RunDirectoryError as error:
        raise SourceError(str(error)) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from None


def _file_batches(file: Any, columns: Sequence[str] | None) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        selection = _selection(opened.schema_arrow.names, columns)
        yield from opened.iter_batches(batch_size=_BATCH_ROWS, columns=selection)


def _selection(names: Sequence[str], columns: Sequence[str] | None) -> list[str] | None:
    """The columns to read; None for all, also where one is missing: then an error can name those there are."""
    return None if columns is None or not set(columns) <= set(names) else list(columns)


def _folder_batches(folder: Path) -> Iterator[Any]:
    """The rows of somebody else's folder of Parquet files, in the order of their names."""
    import pyarrow.dataset as ds

    hidden = (".", "_")
    inside = sorted(
        file
        for file in folder.rglob("*.parquet")
        if file.is_file() and not any(part.startswith(hidden) for part in file.relative_to(folder).parts)
    )
    if not inside:
        raise SourceError(f"{folder}: the folder holds neither Parquet files nor a data set that `datasets` saved")
    table = ds.dataset(list(map(str, inside)), format="parquet", partitioning="hive", partition_base_dir=str(folder))
    yield from table.to_batches(batch_size=_BATCH_ROWS, batch_readahead=1, fragment_readahead=1)


_TextReader = Callable[[Path | str], Iterator[tuple[int, dict[str, Any]]]]
_TEXT_READERS: Final[dict[str, _TextReader]] = {
    "jsonl": _read_json_lines,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": partial(_read_csv, delimiter="\t"),
}
