"""The one reader of BEIR folders, and of files of queries and documents.

A BEIR folder has corpus.jsonl, queries.jsonl, and judgments in qrels/*.tsv. Corpus and queries may also be tables of
any other kind (a .tsv or .txt file may go without a header, as MS MARCO's passages and documents do), and the
judgments one file, e.g. qrels.tsv; see `sources.judgments`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Final

from multigrain.errors import SourceError
from multigrain.sources.judgments import UNNAMED, only_file, read_qrels, split_files
from multigrain.storage.columns import ID, TEXT, TITLE, Column, name_columns, no_column
from multigrain.storage.files import files_inside, unpack_hint
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import Row, read_lines, read_rows
from multigrain.storage.sequences import TextTable
from multigrain.storage.shards import check_parts, refuse_part
from multigrain.storage.text import read_text

TABLE_SUFFIXES: Final = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
"""Of tables of ids and texts."""

_LINE: Final = "line"
_LOOKED_AT: Final = 1_000  # rows
_NAMED: Final = 8  # keys of an object that is no set
_WEB_LINES: Final = 20  # to tell the columns of a file without a header by
_WEB_COLUMNS: Final = ("_id", "url", "title", "text")
_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BeirFiles:
    """The three files of a set.

    Attributes:
        corpus: ids and texts of documents.
        queries: ids and texts of queries.
        qrels: which document answers which query.
    """

    corpus: Path
    queries: Path
    qrels: Path


@dataclass(frozen=True, slots=True)
class JudgedTexts:
    """What the three files hold; every id in the judgments has its text, and every text has words.

    Attributes:
        corpus: document id to text: its title, a space and its text, as BEIR and MTEB have it; the texts on the disk.
        queries: query id to text; BEIR keeps the queries of all splits in one file.
        qrels: query id to document id to grade.
        judgments: what became of the judgments.
        notes: what is to be told of the three files.
        columns: name to query id to what the queries' file has in that column, for the columns that were asked for.
    """

    corpus: TextTable
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    judgments: Reading
    notes: tuple[str, ...]
    columns: dict[str, dict[str, str]]


def is_beir(path: Path) -> bool:
    """Whether a folder holds a corpus and queries by their BEIR names."""
    return path.is_dir() and all(_tables(path, name) for name in ("corpus", "queries"))


def has_packed_texts(path: Path) -> bool:
    """Whether a folder holds a corpus and queries by their BEIR names, some of them compressed: they are not read."""
    return path.is_dir() and all(_tables(path, name) or _packed(path, name) for name in ("corpus", "queries"))


def find_beir(path: Path, split: str | None = None, *, option: str = "") -> BeirFiles:
    """Find the files of a BEIR folder.

    Args:
        path: the folder, or one file in its qrels/.
        split: whose judgments: qrels/SPLIT.tsv. None for test.tsv, the only .tsv there is, or qrels.tsv.
        option: the config key that names the split, for the message.

    Raises:
        SourceError: something is missing.
    """
    folder, qrels = _find_qrels(path, split, option)
    if hint := unpack_hint(qrels):
        raise SourceError(f"{qrels}: {hint}")
    return BeirFiles(find_corpus(folder), _table(folder, "queries"), qrels)


def find_corpus(folder: Path) -> Path:
    """Find the table of documents in a BEIR folder.

    Raises:
        SourceError: there is none.
    """
    return _table(folder, "corpus")


def read_judged_texts(files: BeirFiles, *, columns: Sequence[str] = ()) -> JudgedTexts:
    """Read a set. Texts that are empty and judgments of ids that are not there are left out, as long as they are few.

    Args:
        files: where it lies.
        columns: further columns of the queries to keep, by their very names; keys of BEIR's `metadata` are some too.

    Raises:
        SourceError: a malformed file, duplicate ids, no judgment at all, no such column, or more than a fifth (`FEW`)
            of the documents, of the queries or of the judgments would be left out.
    """
    documents, asked, judgments = Reading("documents"), Reading("queries"), Reading("judgments")
    corpus = TextTable(_texts(files.corpus, documents))
    queries = dict(_texts(files.queries, asked, columns))
    qrels = read_qrels(files.qrels, queries=(queries, files.queries), corpus=(corpus, files.corpus), reading=judgments)
    for reading, path, name in ((documents, files.corpus, "corpus"), (asked, files.queries, "queries")):
        for other in _tables(path.parent, name) if path.stem == name else ():
            if other != path:
                reading.remark(f"{other.name} beside it is not read")
    told = ((documents, files.corpus), (asked, files.queries), (judgments, files.qrels))
    notes = tuple(line for reading, path in told for line in reading.lines(path.name))
    kept = {name: _column(files.queries, name) for name in columns}
    return JudgedTexts(corpus, queries, qrels, judgments, notes, kept)


def _column(path: Path, name: str) -> dict[str, str]:
    """What a column holds, by id; nothing for rows where it is empty."""
    values: dict[str, str] = {}
    seen: dict[str, None] = {}
    for row in read_texts(path):
        metadata = row.values.get("metadata")
        cells = {**metadata, **row.values} if isinstance(metadata, dict) else row.values
        seen |= dict.fromkeys(cells)
        value, identifier = cells.get(name), row.identifier(ID)
        if identifier is not None and value is not None and str(value).strip():
            values[identifier] = " ".join(str(value).split())
    if not values:
        raise SourceError(f"{path}: nothing in a column {name!r}; its columns are {name_columns(seen)}")
    return values


def _texts(path: Path, reading: Reading, columns: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """The ids and texts of a file, without those that are empty."""
    for number, (identifier, text) in enumerate(iterate_texts(path, reading=reading, columns=columns), start=1):
        if text:
            yield identifier, text
        else:
            reading.leave_out("empty", f"{identifier!r}, number {number} in {path.name}, which has no text")
    reading.check_few()


def iterate_texts(
    path: Path, *, reading: Reading | None = None, columns: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """Read ids and texts, one by one. A document's text is its title, where it has one, a space and its text.

    A text may be empty or null, as in some public sets: what is left is the title, or nothing. A row with a title may
    lack the column, where others have it.

    Args:
        path: the file, or a folder of Parquet files.
        reading: notes rows and columns.
        columns: that somebody else reads.

    Raises:
        SourceError: a malformed line, a line without an id or a text column, or an id that is there twice.
    """
    numbers: dict[str, int] = {}
    has_texts = cache(lambda: has_column(read_texts(path), TEXT))
    for row in read_texts(path):
        if reading is not None:
            reading.see(row, using(ID, TITLE, TEXT, "metadata", *columns))
        identifier = row.identifier(ID)
        if identifier is None:
            ids = no_column(ID, row.values) if ID.among(row.values) is None else "no id in it"
            raise SourceError(f"{row.place}: {ids}")
        first = numbers.setdefault(identifier, row.number)
        if first != row.number:
            raise SourceError(f"{row.place}: id {identifier!r} is taken by line {first}; make ids unique")
        title = row.text(TITLE) if TITLE.among(row.values) else None
        lacks_text = title is not None and TEXT.among(row.values) is None and has_texts()
        yield identifier, join_title(title, None if lacks_text else row.text(TEXT))


def has_column(rows: Iterator[Row], column: Column | str) -> bool:
    """Whether one of a table's first rows has a column: others that lack it, in JSON lines, have nothing in it."""
    name = column if isinstance(column, Column) else Column(column, (column,))
    return any(name.among(row.values) is not None for row in islice(rows, _LOOKED_AT))


def join_title(title: str | None, text: str | None) -> str:
    """A passage as BEIR and MTEB have it: its title, where it has one, a space and its text."""
    return " ".join(part for part in (title, text) if part)


def _find_qrels(path: Path, split: str | None, option: str) -> tuple[Path, Path]:
    """The folder of a set, and its file of judgments."""
    if path.is_file():
        folder = path.parent.parent
        if not (_tables(folder, "corpus") or _packed(folder, "corpus")):
            raise SourceError(
                f"{path}: no judgments of a BEIR folder{_keys(path)}; name a folder with corpus.jsonl, queries.jsonl "
                "and qrels/test.tsv, or three files: queries, documents and qrels"
            )
        return folder, path
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder; give one with corpus.jsonl, queries.jsonl and qrels/test.tsv")
    splits = split_files(path)
    named = f"{path / 'qrels'}/{split or 'test'}.tsv"
    packed = [*_packed(path / "qrels", split or "*"), *_packed(path, "qrels*")]
    if packed and (split or UNNAMED) not in splits and (split is not None or not splits):
        raise SourceError(f"{packed[0]}: {unpack_hint(packed[0])}")
    if split is not None and split not in splits and UNNAMED not in splits:
        raise SourceError(f"{named}: no such file; {option} can be: {', '.join(splits) or 'none'}")
    if not splits:
        raise SourceError(f"{path}: no qrels/*.tsv in it; relevance judgments belong in qrels/test.tsv")
    chosen = splits.get(split or "test") or splits.get(UNNAMED)
    if chosen is None and len(splits) > 1:
        example = next(iter(splits.values()))[0]
        raise SourceError(
            f"{example.parent}: {len(splits)} files and no test.tsv; name the one to use, e.g. {example}"
        )
    return path, only_file(chosen or next(iter(splits.values())))


def _keys(path: Path) -> str:
    """What a .json file with one object in it holds; empty of any other file."""
    try:
        value = json.loads(read_text(path)) if path.suffix.lower() == ".json" else None
    except (SourceError, ValueError, RecursionError):
        return ""
    names = ", ".join(map(repr, list(value)[:_NAMED])) if isinstance(value, dict) else ""
    return f", but one object: its keys are {names}" if names else ""


def _tables(folder: Path, name: str) -> list[Path]:
    """The files of a name, and a folder of that name with Parquet files in it, as data sets of the hub have it."""
    files = [path for suffix in TABLE_SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    inside = folder / name
    return [*files, inside] if any(inside.glob("*.parquet")) else files


def _packed(folder: Path, name: str) -> list[Path]:
    """The compressed files of a name."""
    return [path for path in sorted(folder.glob(f"{name}.*")) if unpack_hint(path)]


def _table(folder: Path, name: str) -> Path:
    tables = _tables(folder, name)
    if not tables and (packed := _packed(folder, name)):
        raise SourceError(f"{packed[0]}: {unpack_hint(packed[0])}")
    if not tables:
        raise SourceError(f"{folder}: no {name}.jsonl in it (nor {', '.join(TABLE_SUFFIXES[1:])})")
    return tables[0]


def read_texts(path: Path) -> Iterator[Row]:
    """The rows of a table of ids and texts, which may be a folder of Parquet files, or lines without a header.

    Raises:
        SourceError: it is of another kind, malformed at some line, or a part of it is missing.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        check_parts(file for file in files_inside(path) if file.suffix == ".parquet")
        return read_rows(path, "parquet", several=True)
    refuse_part(path, alone=False)  # by itself it is refused, too: the others are missing
    check_parts([path])
    if hint := unpack_hint(path):
        raise SourceError(f"{path}: {hint}")
    if suffix not in TABLE_SUFFIXES:
        raise SourceError(f"{path}: cannot tell what it holds; expected one of {', '.join(TABLE_SUFFIXES)}")
    if suffix not in (".txt", ".tsv"):
        return read_rows(path)
    if _are_web_documents(path):
        return map(_web_document, read_lines(path))
    return read_rows(path) if suffix == ".tsv" and _has_header(path) else map(_id_and_text, read_lines(path))


def _are_web_documents(path: Path) -> bool:
    """Whether lines are MS MARCO's documents: id, address, title and text; of which the last ones may be empty."""
    lines = [str(row.values[_LINE]).split("\t") for row in islice(read_lines(path), _WEB_LINES)]
    has_addresses = all(len(cells) > 1 and _ADDRESS.fullmatch(cells[1].strip()) for cells in lines)
    return has_addresses and any(len(cells) == len(_WEB_COLUMNS) for cells in lines)


def _web_document(row: Row) -> Row:
    cells = str(row.values[_LINE]).split("\t", len(_WEB_COLUMNS) - 1)
    values = {name: cell.strip().replace("\t", " ") for name, cell in zip_longest(_WEB_COLUMNS, cells, fillvalue="")}
    return Row(row.before, row.number, values)


def _has_header(path: Path) -> bool:
    first = next((str(row.values[_LINE]) for row in read_lines(path)), "")
    names = {cell.strip().lower() for cell in first.split("\t")}
    return ID.among(names) is not None or TEXT.among(names - {first}) is not None


def _id_and_text(row: Row) -> Row:
    line = str(row.values[_LINE])
    identifier, tab, text = line.partition("\t")
    if not tab:
        raise SourceError(f"{row.place}: expected an id, a tab and a text, got {line[:60]!r}")
    return Row(row.before, row.number, {"_id": identifier.strip(), "text": text.replace("\t", " ")})
