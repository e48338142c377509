"""Which files are a table: a Parquet file by itself, or the shards in a folder, as its manifest says.

    NAME.parquet/
      part-00000.parquet, part-00001.parquet, …
      _manifest.json      rows and columns of the table; of every shard its rows, bytes and CRC-32

pandas and pyarrow read such a folder by its name, and leave out files whose names begin with `_`; polars takes
`NAME.parquet/*.parquet`.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from multigrain.display.text import first_line
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.storage.files import file_system

MANIFEST_NAME: Final = "_manifest.json"
"""The file of a folder of shards that says which belong to it."""

RUN_AGAIN: Final = "run the stage that wrote it again"
"""What to do about a table that is not what was written."""

_FORMAT: Final = 1
_BLOCK: Final = 1 << 22
_NAMED: Final = 4  # parts in one line
_PART: Final = re.compile(r"(?P<before>.*?)-?(?P<number>\d+)(?P<after>-of-(?P<total>\d+))")
"""The stem of a file that is one of several of a table, as the hub names them: `test-00000-of-00002`."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a table.

    Attributes:
        file: its name in the table's folder.
        rows: how many it holds.
        bytes: its size.
        crc32: of its bytes, as eight hexadecimal digits.
    """

    file: str
    rows: int
    bytes: int
    crc32: str


@dataclass(frozen=True, slots=True)
class TableManifest:
    """What belongs to a table that is a folder of shards.

    Attributes:
        rows: of all shards.
        columns: a line a column: its name and its type.
        shards: in the order of their rows.
        format: of the manifest.
    """

    rows: int
    columns: tuple[str, ...]
    shards: tuple[Shard, ...]
    format: int = _FORMAT

    def dump(self) -> str:
        """The manifest as it is written."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: str | bytes, table: object) -> TableManifest:
        """Read a manifest.

        Args:
            text: what the file holds.
            table: the folder, for the message.

        Raises:
            RunDirectoryError: it is none, of another format, or does not agree with itself.
        """
        try:
            values = json.loads(text)
            manifest = cls(
                rows=values["rows"],
                columns=tuple(values["columns"]),
                shards=tuple(Shard(**shard) for shard in values["shards"]),
                format=values["format"],
            )
            agrees = manifest.rows == sum(shard.rows for shard in manifest.shards)
            agrees = agrees and all(map(_is_shard, manifest.shards))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunDirectoryError(
                f"{table}: {MANIFEST_NAME} cannot be understood ({error!r}): {RUN_AGAIN}"
            ) from None
        if manifest.format != _FORMAT:
            raise RunDirectoryError(
                f"{table}: {MANIFEST_NAME} is of format {manifest.format}; this version reads {_FORMAT}: {RUN_AGAIN}"
            )
        if not agrees:
            raise RunDirectoryError(f"{table}: {MANIFEST_NAME} does not agree with itself: {RUN_AGAIN}")
        return manifest

    def check(self, sizes: Mapping[str, int], table: object) -> None:
        """Compare with the files that are there; their contents are not read.

        Args:
            sizes: bytes of every file in the folder, by name.
            table: the folder, for the message.

        Raises:
            RunDirectoryError: a shard is missing, of another size, or not one of the table's.
        """
        for shard in self.shards:
            if shard.file not in sizes:
                raise RunDirectoryError(f"{table}: shard {shard.file} is missing: {RUN_AGAIN}")
            if sizes[shard.file] != shard.bytes:
                raise RunDirectoryError(
                    f"{table}: shard {shard.file} has {sizes[shard.file]} bytes, and its manifest says {shard.bytes}: "
                    f"{RUN_AGAIN}"
                )
        # Whoever reads the folder by its name would read these as well.
        files = {shard.file for shard in self.shards}
        strange = sorted(name for name in sizes if _is_read(name) and name not in files)
        if strange:
            raise RunDirectoryError(f"{table}: {strange[0]} is not in its manifest: {RUN_AGAIN}")


def is_table(path: Path) -> bool:
    """Whether there is a file at a path, or a folder with the name of a Parquet file."""
    return path.is_file() or (path.suffix.lower() == ".parquet" and path.is_dir())


def table_files(path: Path) -> list[Path]:
    """The Parquet files of a table, in the order of their rows: the file itself, or a folder's shards.

    Raises:
        RunDirectoryError: the folder has no manifest, or not the shards that it names.
    """
    manifest = stored_manifest(path)
    return [path] if manifest is None else [path / shard.file for shard in manifest.shards]


def stem_of_table(file: Path) -> str:
    """A file's name without its suffix and, where it is one of several of a table, without its number."""
    part = _PART.fullmatch(file.stem)
    return file.stem if part is None else part["before"]


def parts_of_table(file: Path) -> list[Path]:
    """The files of a table that somebody else wrote in parts (`test-00000-of-00002.parquet`), in order.

    Args:
        file: one of the parts; any other file is a table by itself.

    Raises:
        SourceError: a part is missing, or there are parts of two tables.
    """
    if _PART.fullmatch(file.stem) is None:
        return [file]
    parts = _parts_beside(file)
    check_parts(parts)
    return parts


def refuse_part(file: Path, *, alone: bool = True) -> None:
    """See that a file is not one of several parts of a table that lie beside it: it would be read for the whole.

    Args:
        file: any file.
        alone: a part by itself would be read, so that a folder of its own is a way to do so.

    Raises:
        SourceError: it is.
    """
    if _PART.fullmatch(file.stem) is None or not file.is_file():
        return
    parts = _parts_beside(file)
    if len(parts) > 1:
        cure = (
            _how_to_join(parts)
            if file.suffix.lower() == ".jsonl"
            else "put them all in one folder, and name that"
            if file.suffix.lower() == ".parquet"
            else "write their rows into one file"
        )
        by_itself = "; to read this one alone, copy it to a folder of its own" if alone else ""
        raise SourceError(f"{file}: one of {len(parts)} parts of a table; {cure}{by_itself}")


def _parts_beside(file: Path) -> list[Path]:
    """The parts of a part's table in its folder, itself among them, by their numbers."""
    stem = stem_of_table(file)
    like = f"{glob.escape(stem)}*-of-*{glob.escape(file.suffix)}"
    named = [(other, _PART.fullmatch(other.stem)) for other in file.parent.glob(like)]
    numbered = [(int(part["number"]), other) for other, part in named if part is not None and part["before"] == stem]
    return [other for _, other in sorted(numbered)]


def _how_to_join(parts: Sequence[Path]) -> str:
    """How to make one file of JSON Lines of its parts; no file is overwritten."""
    stem, suffix = stem_of_table(parts[0]) or "all", parts[0].suffix
    names = chain([stem], (f"{stem}-joined{number or ''}" for number in count()))
    whole = next(name for name in (f"{each}{suffix}" for each in names) if not (parts[0].parent / name).exists())
    if len(parts) > _NAMED:
        return f"join all {len(parts)} parts first, {parts[0].name} to {parts[-1].name} in this order, e.g. as {whole}"
    return f"join them first, e.g. `cat {shlex.join(part.name for part in parts)} > {shlex.quote(whole)}`"


def check_parts(files: Iterable[Path]) -> None:
    """See that of tables in parts all are there, among some files.

    Raises:
        SourceError: a part is missing, or there are parts of two tables.
    """
    tables: dict[tuple[Path, str, str], list[tuple[Path, re.Match[str]]]] = defaultdict(list)
    for file in files:
        if (part := _PART.fullmatch(file.stem)) is not None:
            tables[file.parent, part["before"], file.suffix].append((file, part))
    for parts in tables.values():
        first, match = parts[0]
        other = next((file for file, part in parts if int(part["total"]) != int(match["total"])), None)
        if other is not None:
            raise SourceError(f"{other}: {first.name} beside it is of another number of parts; remove those of one")
        numbers, total = {int(part["number"]) for _, part in parts}, int(match["total"])
        begin = int(total in numbers)  # most count from 0
        missing = next((number for number in range(begin, begin + total) if number not in numbers), None)
        if missing is not None:
            digits = f"{missing:0{len(match['number'])}d}"
            name = first.name.replace(match["number"] + match["after"], digits + match["after"])
            raise SourceError(
                f"{first.parent / name}: no such file, and {first.name} is one of {total} parts; fetch them all"
            )


def remote_files(place: str) -> list[str]:
    """The Parquet files of a table at an fsspec address, in the order of their rows: the file itself, or the shards.

    Raises:
        RunDirectoryError: the manifest there cannot be understood, or does not fit the shards.
        SourceError: the address' kind is unknown, or its driver is not installed.
    """
    files, place = file_system(place), place.rstrip("/")
    try:
        raw = files.cat_file(f"{place}/{MANIFEST_NAME}")
    except OSError:  # there is none; some stores say that one may not see whether there is
        return [place]
    manifest = TableManifest.parse(raw, place)
    sizes = {str(entry["name"]).rsplit("/", 1)[-1]: entry["size"] for entry in files.ls(place, detail=True)}
    manifest.check(sizes, place)
    return [f"{place}/{shard.file}" for shard in manifest.shards]


def verify_table(path: Path) -> int:
    """Read every byte of a table and compare it with its checksums: a shard's CRC-32, or a single file's by page.

    Returns:
        Bytes read.

    Raises:
        RunDirectoryError: it is not what was written.
        FileNotFoundError: there is no such table.
    """
    manifest = stored_manifest(path)
    if manifest is None:
        with reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
            return path.stat().st_size
    for shard in manifest.shards:
        if _crc32(path / shard.file) != shard.crc32:
            raise RunDirectoryError(
                f"{path}: shard {shard.file} is not what was written (its CRC-32 differs): {RUN_AGAIN}"
            )
    return sum(shard.bytes for shard in manifest.shards)


def stored_manifest(path: Path) -> TableManifest | None:
    """The manifest of a folder, compared with its files; None for a single file.

    Raises:
        RunDirectoryError: the folder has none, or not the shards that it names.
    """
    if not path.is_dir():
        return None
    try:
        text = (path / MANIFEST_NAME).read_bytes()
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(path)}
    except FileNotFoundError:
        raise RunDirectoryError(
            f"{path}: a folder without {MANIFEST_NAME}, which says what belongs to the table: {RUN_AGAIN}"
        ) from None
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror}): {RUN_AGAIN}") from None
    manifest = TableManifest.parse(text, path)
    manifest.check(sizes, path)
    return manifest


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Says it in one line where a file cannot be read.

    Raises:
        RunDirectoryError: it cannot be read, or is no Parquet file.
        FileNotFoundError: there is none.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # of pyarrow's errors, those about a file are one or the other
        raise RunDirectoryError(f"{path}: cannot be read ({first_line(error)}): {RUN_AGAIN}") from None


def _is_shard(shard: Shard) -> bool:
    """Whether a manifest's entry is the name of a file in the folder, with figures."""
    figures = isinstance(shard.rows, int) and isinstance(shard.bytes, int) and isinstance(shard.crc32, str)
    return figures and _is_read(shard.file) and Path(shard.file).name == shard.file


def _is_read(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith((".", "_"))


def _crc32(path: Path) -> str:
    checksum = 0
    with reading(path), path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"
