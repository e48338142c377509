"""A corpus that is read as a stream: texts go by, and only those that are asked for are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from multigrain.errors import RunDirectoryError, SourceError
from multigrain.mining.vectors import file_system
from multigrain.sources.files import read_rows
from multigrain.storage.shards import MANIFEST_NAME, TableManifest

__all__ = ["CorpusFiles", "TextList", "shards_of"]

_ROWS: Final = 8_192


@dataclass(frozen=True)
class TextList:
    """A corpus in memory."""

    texts: Sequence[str]

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def pick(self, rows: set[int]) -> dict[int, str]:
        """The texts of some rows."""
        return {row: self.texts[row] for row in rows}


@dataclass(frozen=True)
class CorpusFiles:
    """Texts in Parquet, JSONL, CSV or TSV files; Parquet and JSONL are read as a stream, from any fsspec address.

    Attributes:
        places: files, folders of them, or addresses; in the order in which rows are numbered.
        field: the column that holds the text.

    Raises (while reading):
        SourceError: a file is missing, of another kind, malformed at some line, or has no such column.
    """

    places: tuple[str, ...]
    field: str = "text"

    def __iter__(self) -> Iterator[str]:
        for path in self.files():
            yield from self._texts(path)

    def files(self) -> list[str]:
        """The files, folders opened, in order."""
        found: list[str] = []
        for place in self.places:
            files = file_system(place)
            if not files.exists(place):
                raise SourceError(f"corpus {place}: no such file or folder")
            if not files.isdir(place):
                found.append(place)
                continue
            inside = _inside(files, place)
            if not inside:
                raise SourceError(f"corpus {place}: no .parquet or .jsonl file in the folder")
            found.extend(files.unstrip_protocol(path) if "://" in place else path for path in inside)
        return found

    def pick(self, rows: set[int]) -> dict[int, str]:
        """The texts of some rows, in one more pass over the files."""
        last = max(rows, default=-1) + 1
        return {row: text for row, text in enumerate(islice(self, last)) if row in rows}

    def _texts(self, path: str) -> Iterator[str]:
        if path.endswith(".parquet"):
            yield from self._parquet(path)
        elif path.endswith((".jsonl", ".ndjson")):
            yield from self._jsonl(path)
        else:
            for number, row in read_rows(Path(path)):
                yield self._text(row, path, number)

    def _parquet(self, path: str) -> Iterator[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with file_system(path).open(path, "rb") as stream:
            try:
                table = pq.ParquetFile(stream)
            except (pa.ArrowInvalid, OSError) as error:
                raise SourceError(f"{path}: not a Parquet file ({error})") from None
            if self.field not in table.schema_arrow.names:
                names = ", ".join(repr(name) for name in table.schema_arrow.names)
                raise SourceError(f"{path}: no column {self.field!r}; it has {names}")
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS, columns=[self.field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield self._text({self.field: text}, path, number)

    def _jsonl(self, path: str) -> Iterator[str]:
        with file_system(path).open(path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise SourceError(f"{path}, line {number}: not JSON ({error})") from None
                if not isinstance(row, dict):
                    raise SourceError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
                yield self._text(row, path, number)

    def _text(self, row: dict[str, Any], path: str, number: int) -> str:
        if self.field not in row:
            raise SourceError(
                f"{path}, line {number}: no column {self.field!r}; it has {', '.join(repr(name) for name in row)}"
            )
        text = row[self.field]
        if not isinstance(text, str):
            raise SourceError(f"{path}, line {number}: {self.field!r} is {type(text).__name__}, not text")
        return text


def _inside(files: Any, folder: str) -> list[str]:
    """The tables in a folder, by name; of a table that is a folder of shards, the shards that its manifest names."""
    entries = {each["name"].rstrip("/"): each for each in files.ls(folder, detail=True)}
    manifest = next((path for path in entries if path.rsplit("/", 1)[-1] == MANIFEST_NAME), None)
    if manifest is not None:
        return _shards(files, folder, manifest, entries)
    found: list[str] = []
    for path in sorted(entries):
        if entries[path]["type"] == "directory" and path.endswith(".parquet"):
            found.extend(_inside(files, path))
        elif path.endswith((".parquet", ".jsonl")):
            found.append(path)
    return found


def _shards(files: Any, folder: str, manifest: str, entries: Mapping[str, Any]) -> list[str]:
    paths = {path.rsplit("/", 1)[-1]: path for path in entries}
    try:
        told = TableManifest.parse(files.cat_file(manifest), folder)
        told.check({name: entries[path]["size"] for name, path in paths.items()}, folder)
    except RunDirectoryError as error:
        raise SourceError(f"corpus {error}") from None
    return [paths[each.file] for each in told.shards]


def shards_of(texts: Iterator[str], rows: int) -> Iterator[Sequence[str]]:
    """Texts in lots of one shard each."""
    while lot := list(islice(texts, rows)):
        yield lot
