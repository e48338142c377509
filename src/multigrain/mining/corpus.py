"""A corpus that is read as a stream: texts go by, and only those that are asked for are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from multigrain.errors import RunDirectoryError, SourceError
from multigrain.sources.beir import find_corpus, is_beir, iterate_texts
from multigrain.storage.files import file_system, is_remote
from multigrain.storage.rows import read_rows
from multigrain.storage.shards import MANIFEST_NAME, TableManifest

_TABLES: Final = (".parquet", ".jsonl")


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
    """Texts in tables, or in the corpus of a BEIR folder; read as a stream, from any fsspec address.

    Attributes:
        places: files, folders of them, or addresses; in the order in which rows are numbered.
        field: the column that holds the text; in a BEIR folder it is title and text.

    Raises (while reading):
        SourceError: a file is missing, of another kind, malformed at some line, or has no such column.
    """

    places: tuple[str, ...]
    field: str = "text"

    def __iter__(self) -> Iterator[str]:
        for place in self.places:
            if is_beir(Path(place)):
                yield from (text for _, text in iterate_texts(find_corpus(Path(place))))
                continue
            for path in _files(place):
                yield from self._texts(path)

    def pick(self, rows: set[int]) -> dict[int, str]:
        """The texts of some rows, in one more pass over the files."""
        last = max(rows, default=-1) + 1
        return {row: text for row, text in enumerate(islice(self, last)) if row in rows}

    def _texts(self, path: str) -> Iterator[str]:
        for row in read_rows(path, columns=[self.field]):
            text = row.values[row.column(self.field, option="--text-field")]
            if not isinstance(text, str):
                raise SourceError(f"{row.place}: {self.field!r} is {type(text).__name__}, not text")
            yield text


def _files(place: str) -> list[str]:
    """The files at a place, folders opened, in order."""
    files = file_system(place)
    if not files.exists(place):
        raise SourceError(f"corpus {place}: no such file or folder")
    if not files.isdir(place):
        return [place]
    inside = _inside(files, place)
    if not inside:
        raise SourceError(f"corpus {place}: no {', '.join(_TABLES)} file in the folder")
    return [files.unstrip_protocol(path) if is_remote(place) else path for path in inside]


def _inside(files: Any, folder: str) -> list[str]:
    """The tables in a folder, by name; of a table that is a folder of shards, the shards that its manifest names."""
    entries = {entry["name"].rstrip("/"): entry for entry in files.ls(folder, detail=True)}
    manifest = next((path for path in entries if path.rsplit("/", 1)[-1] == MANIFEST_NAME), None)
    if manifest is not None:
        return _shards(files, folder, manifest, entries)
    inside: list[str] = []
    for path in sorted(entries):
        if entries[path]["type"] == "directory" and path.endswith(".parquet"):
            inside.extend(_inside(files, path))
        elif path.endswith(_TABLES):
            inside.append(path)
    return inside


def _shards(files: Any, folder: str, manifest: str, entries: Mapping[str, Any]) -> list[str]:
    paths = {path.rsplit("/", 1)[-1]: path for path in entries}
    try:
        table = TableManifest.parse(files.cat_file(manifest), folder)
        table.check({name: entries[path]["size"] for name, path in paths.items()}, folder)
    except RunDirectoryError as error:
        raise SourceError(f"corpus {error}") from None
    return [paths[shard.file] for shard in table.shards]
