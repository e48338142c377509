"""A corpus that is read as a stream: texts go by, and only those that are asked for are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from multigrain.config.paths import is_hub
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.sources.beir import find_corpus, has_column, is_beir, join_title, read_texts
from multigrain.sources.files import table_kind
from multigrain.storage.columns import ID, PASSAGE, TEXT, TITLE, Column
from multigrain.storage.files import file_system, is_remote, unpack_hint
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import TABLES_OF_FOLDERS, read_rows
from multigrain.storage.shards import MANIFEST_NAME, TableManifest

_NAMED: Final = 5  # files in one line


@dataclass(frozen=True, slots=True)
class Passage:
    """A text of a corpus.

    Attributes:
        text: its title, where it has one, and its text, as everywhere.
        body: its text alone.
    """

    text: str
    body: str


@dataclass(frozen=True)
class TextList:
    """A corpus in memory."""

    texts: Sequence[str]

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def passages(self) -> Iterator[Passage]:
        """The texts, which have no titles."""
        return (Passage(text, text) for text in self.texts)

    def pick(self, rows: set[int]) -> dict[int, str]:
        """The texts of some rows."""
        return {row: self.texts[row] for row in rows}


@dataclass(frozen=True)
class CorpusFiles:
    """Texts in tables and data sets, or in the corpus of a BEIR folder; read as a stream, from any fsspec address.

    A table with a title column is read as a BEIR corpus is: title and text. Texts that are empty are left out.

    Attributes:
        places: files, folders of them, data sets of the hub, or addresses; in the order in which rows are numbered.
        field: the column that holds the text, or another of its usual names where that is "text".
        readings: what became of each file's rows in the last pass.
        passed_over: by folder, names of files in it that hold data, and are not read.

    Raises (while reading):
        SourceError: a file is missing, of another kind, malformed at some line, or has no such column.
    """

    places: tuple[str, ...]
    field: str = "text"
    readings: dict[str, Reading] = dataclass_field(default_factory=dict, compare=False)
    passed_over: dict[str, list[str]] = dataclass_field(default_factory=dict, compare=False)

    def __iter__(self) -> Iterator[str]:
        return (passage.text for passage in self.passages())

    def passages(self) -> Iterator[Passage]:
        """The texts, with and without their titles."""
        for place in self.places:
            in_beir = is_beir(Path(place))
            for path in [str(find_corpus(Path(place)))] if in_beir else self._files(place):
                reading = self.readings[path] = Reading("texts")
                yield from self._passages(path, TEXT if in_beir else PASSAGE.unless(self.field), reading)

    def notes(self) -> Iterator[str]:
        """What is to be told of the files that were read."""
        for path, reading in self.readings.items():
            yield from reading.lines(path)
        for place, names in self.passed_over.items():
            yield f"{place}: not read: {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''}"

    def pick(self, rows: set[int]) -> dict[int, str]:
        """The texts of some rows, in one more pass over the files."""
        last = max(rows, default=-1) + 1
        return {row: text for row, text in enumerate(islice(self, last)) if row in rows}

    def _files(self, place: str) -> list[str]:
        """The files at a place, folders opened, in order; and what the reader of tables reads as one."""
        if is_hub(Path(place)):
            return [place]
        files = file_system(place)
        if not files.exists(place):
            raise SourceError(f"corpus {place}: no such file or folder")
        if not files.isdir(place):
            if hint := unpack_hint(place):
                raise SourceError(f"corpus {place}: {hint}")
            return [place]
        inside, others = _inside(files, place)
        if not inside and not is_remote(place) and table_kind(Path(place)) is not None:
            return [place]
        if not inside:
            hint = next(filter(None, map(unpack_hint, others)), "")
            kinds = ", ".join(TABLES_OF_FOLDERS)
            raise SourceError(f"corpus {place}: no {kinds} file in the folder{hint and f'; {hint}'}")
        if others:
            self.passed_over[place] = others
        return [files.unstrip_protocol(path) if is_remote(place) else path for path in inside]

    def _passages(self, path: str, column: Column | str, reading: Reading) -> Iterator[Passage]:
        part = path not in self.places  # files of a folder are all read
        read = partial(read_texts, Path(path)) if column is TEXT else partial(read_rows, path, part=part)
        rows = read() if column is TEXT else read_rows(path, columns=[column, TITLE], part=part)
        used = using(column, TITLE, ID, "metadata")
        if (whole := next(read(), None) if column is not TEXT else None) is not None:
            reading.note_columns(whole, used)  # those that are not used are not read further
        has_texts = cache(lambda: has_column(read(), column))
        for row in rows:
            reading.see(row, used)
            title = row.text(TITLE) if TITLE.among(row.values) is not None else None
            lacks_text = title is not None and not has_column(iter([row]), column) and has_texts()
            text = "" if lacks_text else row.values[row.column(column, option="--text-field")]
            if text is None or text == "":
                text = ""
            elif not isinstance(text, str):
                raise SourceError(f"{row.place}: {row.column(column)!r} is {type(text).__name__}, not text")
            joined = join_title(title, text if text.strip() else None)
            if joined:
                yield Passage(joined, text)
            else:
                reading.leave_out("empty", f"{row.place}: no text")


def _inside(files: Any, folder: str) -> tuple[list[str], list[str]]:
    """The tables in a folder and names of other data in it; of a folder of shards, those that its manifest names."""
    entries = {entry["name"].rstrip("/"): entry for entry in files.ls(folder, detail=True)}
    manifest = next((path for path in entries if path.rsplit("/", 1)[-1] == MANIFEST_NAME), None)
    if manifest is not None:
        return _shards(files, folder, manifest, entries), []
    inside: list[str] = []
    others: list[str] = []
    for path in sorted(entries):
        name = path.rsplit("/", 1)[-1]
        if entries[path]["type"] == "directory":
            inside.extend(_inside(files, path)[0] if name.endswith(".parquet") else ())
        elif name.lower().endswith(TABLES_OF_FOLDERS):
            inside.append(path)
        elif name.lower().endswith(".json") or unpack_hint(name):
            others.append(name)
    return inside, others


def _shards(files: Any, folder: str, manifest: str, entries: Mapping[str, Any]) -> list[str]:
    paths = {path.rsplit("/", 1)[-1]: path for path in entries}
    try:
        table = TableManifest.parse(files.cat_file(manifest), folder)
        table.check({name: entries[path]["size"] for name, path in paths.items()}, folder)
    except RunDirectoryError as error:
        raise SourceError(f"corpus {error}") from None
    return [paths[shard.file] for shard in table.shards]
