"""The one reader of tables: JSON, JSON Lines, CSV, TSV and Parquet, folders of Parquet files, and data sets.

Every row knows its place, which errors begin with: `path:LINE` in a text file, `path:row N` in any other table. Behind
line ends in the cells of a text file it is `path:row N, line LINE`, since a spreadsheet counts rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, Final, TextIO

from multigrain.config.paths import is_hub
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.storage.columns import Column, no_column
from multigrain.storage.entries import list_in, passage_text
from multigrain.storage.files import is_remote, open_binary, unpack_hint
from multigrain.storage.hub import ClassName, HubReference, class_names, is_saved, parse_hub, read_hub
from multigrain.storage.logical import logical_readers
from multigrain.storage.parquet_folder import folder_batches
from multigrain.storage.separated import check_names, read_separated
from multigrain.storage.shards import MANIFEST_NAME, refuse_part, remote_files, table_files
from multigrain.storage.text import storable, text_stream

ROW_KINDS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""What a table's file name ends on, and what it then holds."""

TABLES_OF_FOLDERS: Final = tuple(suffix for suffix in ROW_KINDS if suffix != ".json")
"""Of the files in a folder those that are tables; most .json files there describe others."""

_BATCH_ROWS: Final = 4_096
_HALF_CHARACTER: Final = re.compile(r"\\u(?:d[89a-f]|0000)", re.IGNORECASE)
"""How JSON escapes half of a character, or NUL; both halves of one are escaped so too, and stay."""
_MISSING: Final = object()
_NAMED: Final = 8  # keys of an object that is no row
_SHOWN: Final = 60  # characters of a line that cannot be read


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        before: what stands before the number in the row's place: "pairs.jsonl:", "pairs.parquet:row " or
            "pairs.csv:row 7, line ".
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
            column: the column, or its very name; with dots it is a field within a column, such as "_source.body".
            option: the config key or command-line option that names it.

        Raises:
            SourceError: there is none; the message names those there are.
        """
        name = column if isinstance(column, str) else column.among(self.values)
        if name is None or (name not in self.values and _within(self.values, name) is _MISSING):
            raise SourceError(f"{self.place}: {no_column(column, _fields(self.values), option=option)}")
        return name

    def value(self, name: str) -> Any:
        """What stands under a name, or within objects under the parts of a name with dots; None where nothing does."""
        if name in self.values:
            return self.values[name]
        value = _within(self.values, name)
        return None if value is _MISSING else value

    def text(self, column: Column | str, *, option: str = "") -> str | None:
        """The text in a column without spaces around it; None where it is empty.

        Raises:
            SourceError: there is no such column, or it holds something else.
        """
        name = self.column(column, option=option)
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise SourceError(f"{self.place}: {name!r} is {type(value).__name__}, not text")
        return value.strip() or None

    def texts(self, column: Column | str, *, option: str = "") -> list[str]:
        """The texts in a column that holds a text, or a list of texts or passages; empty ones are left out.

        Raises:
            SourceError: there is no such column, or it holds something else.
        """
        name = self.column(column, option=option)
        value = list_in(self.value(name), name, f"{self.place}: {name!r}")
        texts = []
        for entry in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(entry, str | dict):
                raise SourceError(
                    f"{self.place}: {name!r} holds {type(entry).__name__}; it must be a text or a list of texts"
                )
            texts.append(passage_text(entry, f"{self.place}: {name!r}") if isinstance(entry, dict) else entry)
        return [text.strip() for text in texts if text.strip()]

    def first(self, column: Column | str | None) -> Any:
        """The first value that is there under one of a column's names; None where there is none."""
        names = () if column is None else (column,) if isinstance(column, str) else column.all_among(self.values)
        values = map(self.value, names)
        return next((value for value in values if value is not None and value != ""), None)

    def identifier(self, column: Column | str | None) -> str | None:
        """The id in a column, as text; None where there is no such column, or nothing in it."""
        value = self.first(column)
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise SourceError(f"{self.place}: an id is a text or a number, got {str(value)[:_SHOWN]!r}")
        # pandas makes 1.0 of an id where another row has none.
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _within(values: Mapping[str, Any], name: str) -> Any:
    """What stands within objects under the parts of a name with dots."""
    value: Any = values
    for part in name.split("."):
        value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
    return value


def _fields(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The columns of a row; of one that holds an object its fields, with dots before their names."""
    for number, (name, value) in enumerate(values.items()):
        if before and number == _NAMED:
            yield f"{before}…"
            return
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def row_kind(path: Path | str) -> str | None:
    """What a table holds, by its name: "hub", or one of `ROW_KINDS`; None where the name does not tell."""
    return "hub" if is_hub(Path(path)) else ROW_KINDS.get(Path(path).suffix.lower())


def read_rows(
    path: Path | str,
    kind: str | None = None,
    *,
    columns: Sequence[str | Column] | None = None,
    several: bool = False,
    part: bool = False,
) -> Iterator[Row]:
    """Read a table, row by row as rows are asked for.

    Args:
        path: a file, a folder of Parquet files or one that `datasets` saved, `hf:OWNER/NAME…`, or an fsspec address.
        kind: what it holds; None to tell by its name.
        columns: the only columns to read, where the first of them is there: a Parquet file is then read in part.
            The others may be missing.
        several: Parquet files of several splits in a folder are parts of one table.
        part: a file that is one of several of a table is read alone.

    Raises:
        SourceError: it is of another kind, unreadable, not UTF-8, malformed at some line, or one of several parts of a
            table.
    """
    if kind is None:
        is_folder = not is_remote(path) and Path(path).is_dir()
        kind = row_kind(path) or ("parquet" if is_folder else None)
    if not (part or kind == "hub" or is_remote(path)):
        refuse_part(Path(path))
    if kind is None:
        expected = unpack_hint(path) or f"expected one of {', '.join(ROW_KINDS)}"
        raise SourceError(f"{path}: cannot tell what it holds; {expected}")
    if kind == "hub":
        return read_data_set(parse_hub(Path(path)), str(path))
    if kind == "parquet":
        return _number(f"{path}:row ", _table_rows(_parquet_batches(path, columns, several), columns))
    if kind in SEPARATED:
        return starmap(Row, read_separated(path, SEPARATED[kind]))
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
    with text_stream(path, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if text := line.strip():
                yield Row(f"{path}:", number, {"line": text})


def _number(before: str, rows: Iterator[dict[str, Any]]) -> Iterator[Row]:
    return (Row(before, number, values) for number, values in enumerate(rows, start=1))


def _read_json_lines(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not split at other characters that end a line elsewhere, such as U+2028: in JSON they are text.
    with text_stream(path, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, _object(line, f"{path}:{number}")


def _read_json(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """One list of objects; or, as many a .json file has it, JSON lines."""
    with text_stream(path, newline="\n") as stream:
        text = next((line for line in stream if line.strip()), "").lstrip()
        if not text.startswith("["):
            if _begins_object(text):
                raise SourceError(f"{path}: one object over several lines, not a list of rows{_keys(text, stream)}")
            rest = next((line for line in stream if line.strip()), None)
            if rest is None and _holds_rows(text):
                raise SourceError(f"{path}: one object, not a list of rows{_keys(text, stream)}")
            yield from _read_json_lines(path)
            return
        text += stream.read()
    try:
        values = _parse(text)
    except _RepeatedKeyError as error:
        raise SourceError(f"{path}: the key {str(error)!r} stands twice in one object; keep one of the two") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not JSON ({error}): {text[:_SHOWN]!r}") from None
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise SourceError(f"{path}:entry {number}: expected an object, got {type(value).__name__}")
        yield number, value


def _begins_object(line: str) -> bool:
    """Whether a line is the beginning of an object that goes on in the next one."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return line.startswith("{") and error.pos >= len(line.rstrip())
    return False


def _holds_rows(line: str) -> bool:
    """Whether the only line of a file is an object that holds rows: by id, or a list under a name."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    entries = list(value.values()) if isinstance(value, dict) else []
    by_id = len(entries) > 1 and all(isinstance(entry, dict) for entry in entries)
    return by_id or (len(entries) == 1 and isinstance(entries[0], list))


def _keys(text: str, stream: TextIO) -> str:
    """What an object holds, where the rest of it can be read."""
    try:
        keys = list(json.loads(text + stream.read()))[:_NAMED]
        return f": its keys are {', '.join(map(repr, keys))}; write the rows as a list, or one a line"
    except (ValueError, RecursionError):
        return ""


def _parse(text: str) -> Any:
    """JSON as other tools write it: NaN, which pandas has for what is missing, is nothing; half characters go."""
    value = json.loads(text, object_pairs_hook=_one_value_a_key, parse_constant=_constant)
    return _storable(value) if _HALF_CHARACTER.search(text) else value


def _parse_cell(text: str) -> Any:
    """As `_parse`, for a column of JSON; what is none stays the text that it is."""
    try:
        return _parse(text)
    except (_RepeatedKeyError, ValueError, RecursionError):
        return text


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no number that JSON has")


def _storable(value: Any) -> Any:
    """The value with all its texts such that a file can hold them and a tokenizer read them."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    return {name: _storable(entry) for name, entry in value.items()} if isinstance(value, dict) else value


class _RepeatedKeyError(Exception):
    """A key that an object has twice: the parser would drop the first value without a word."""


def _one_value_a_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return values


def _object(line: str, place: str) -> dict[str, Any]:
    shown = repr(line.removesuffix("\n")[:_SHOWN])
    try:
        value = _parse(line)
    except _RepeatedKeyError as error:
        raise SourceError(f"{place}: the key {str(error)!r} stands twice in one object; keep one of the two") from None
    except (ValueError, RecursionError) as error:
        several = " (an object over several lines? each row stands on one)" if _begins_object(line) else ""
        raise SourceError(f"{place}: not JSON{several} ({error}): {shown}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{place}: expected an object, got {type(value).__name__}: {shown}")
    return value


def _table_rows(batches: Iterator[Any], columns: Sequence[str | Column] | None) -> Iterator[dict[str, Any]]:
    """The rows of Arrow tables or record batches, with what their values stand for (see `logical_readers`).

    Classes are given by their names, where `datasets` wrote them.
    """
    for batch in batches:
        selection = _selection(batch.schema.names, columns)
        chosen = batch if selection is None else batch.select(selection)
        classes, readers = class_names(chosen.schema), logical_readers(chosen.schema, _parse_cell)
        for values in chosen.to_pylist():
            for name, read in readers.items():
                values[name] = read(values[name])
            for name in classes.keys() & values.keys():
                if isinstance(number := values[name], int):
                    values[name] = ClassName.of(classes[name], number)
            yield values


def _parquet_batches(path: Path | str, columns: Sequence[str | Column] | None, several: bool) -> Iterator[Any]:
    """The rows of a file, of a table of shards or of a folder, some thousand at a time."""
    import pyarrow as pa

    try:
        if is_remote(path) or not Path(path).is_dir():
            for file in remote_files(str(path)) if is_remote(path) else (path,):
                with open_binary(file) as stream:
                    yield from _file_batches(stream, columns)
        elif (Path(path) / MANIFEST_NAME).exists():
            for file in table_files(Path(path)):
                yield from _file_batches(file, columns)
        elif is_saved(Path(path)):
            yield from read_hub(HubReference(str(path), None, None, None), str(path))
        else:
            yield from folder_batches(Path(path), _BATCH_ROWS, several=several)
    except RunDirectoryError as error:
        raise SourceError(str(error)) from None
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None


def _file_batches(file: Any, columns: Sequence[str | Column] | None) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        check_names(opened.schema_arrow.names, str(file) if isinstance(file, Path) else "the file")
        selection = _selection(opened.schema_arrow.names, columns)
        yield from opened.iter_batches(batch_size=_BATCH_ROWS, columns=selection)


def _selection(names: Sequence[str], columns: Sequence[str | Column] | None) -> list[str] | None:
    """The columns to read; None for all, also where the first is missing: then an error can name those there are."""
    if columns is None:
        return None
    first, *others = (_column_among(column, names) for column in columns)
    return None if first is None else list(dict.fromkeys(filter(None, (first, *others))))


def _column_among(column: str | Column, names: Sequence[str]) -> str | None:
    if isinstance(column, Column):
        return column.among(names)
    return column if column in names else outer if (outer := column.partition(".")[0]) in names else None


_TextReader = Callable[[Path | str], Iterator[tuple[int, dict[str, Any]]]]
_TEXT_READERS: Final[dict[str, _TextReader]] = {
    "jsonl": _read_json_lines,
    "json": _read_json,
}
SEPARATED: Final = {"csv": ",", "tsv": "\t"}
"""The separator that a kind of text file stands for."""
