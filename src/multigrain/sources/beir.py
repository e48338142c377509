"""The one reader of BEIR folders, and of files of queries, documents and relevance judgments.

A BEIR folder has corpus.jsonl, queries.jsonl, and judgments in qrels/*.tsv. Corpus and queries may also be tables of
any other kind (a .tsv or .txt file may go without a header, as MS MARCO's do), and the judgments one file, e.g.
qrels.tsv. Judgments have TREC's four columns (query id, iteration, document id, grade), or three (query id, document
id, grade) with or without a header; other tables name their columns as BEIR does (query-id, corpus-id, score).
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.columns import DOCUMENT_ID, GRADE, ID, QUERY_ID, TEXT, TITLE, no_column
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import Row, read_lines, read_rows
from multigrain.storage.sequences import TextTable
from multigrain.storage.text import read_text

TABLE_SUFFIXES: Final = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
"""Of tables of ids and texts."""

_COLUMN_FILES: Final = (".jsonl", ".json", ".csv", ".parquet")
_QRELS_SUFFIXES: Final = (".tsv", ".txt", ".trec", ".qrels", ".qrel", *_COLUMN_FILES)
_QRELS_FOLDERS: Final = ("qrels", "default", "data")
_SHARD: Final = re.compile(r"-\d+-of-\d+$")
_LINE: Final = "line"
_JUDGMENT: Final = "expected query id, document id and grade"


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
        raise SourceError(f"{path}: nothing in a column {name!r}; its columns are {', '.join(map(str, seen))}")
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

    A text may be empty or null, as in some public sets: what is left is the title, or nothing.

    Args:
        path: the file, or a folder of Parquet files.
        reading: notes rows and columns.
        columns: that somebody else reads.

    Raises:
        SourceError: a malformed line, a line without an id or a text column, or an id that is there twice.
    """
    numbers: dict[str, int] = {}
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
        yield identifier, join_title(title, row.text(TEXT))


def join_title(title: str | None, text: str | None) -> str:
    """A passage as BEIR and MTEB have it: its title, where it has one, a space and its text."""
    return " ".join(part for part in (title, text) if part)


def read_qrels(
    path: Path,
    *,
    queries: tuple[Container[str], Path] | None = None,
    corpus: tuple[Container[str], Path] | None = None,
    reading: Reading | None = None,
) -> dict[str, dict[str, int]]:
    """Read relevance judgments: query id to document id to grade. A file without grades names relevant documents only.

    Args:
        path: the file.
        queries: the ids there are, and the file that has them; None to take any.
        corpus: the same for documents.
        reading: notes judgments, and which are left out.

    Raises:
        SourceError: the file is missing or empty, a line has other columns, a grade is no whole number, more than a
            fifth (`FEW`) of the judgments name an id that is not there, or a pair is judged twice with different
            grades.
    """
    reading = reading or Reading("judgments")
    qrels: dict[str, dict[str, int]] = {}
    for place, query_id, document_id, written in _judgments(path):
        reading.rows += 1
        missing = _missing(("query-id", query_id, queries), ("corpus-id", document_id, corpus))
        if missing is not None:
            column, unknown, name = missing
            reading.leave_out(f"{column} not in {name}", f"{place}: {column} {unknown!r} is not in {name}")
            continue
        grade = _grade(written)
        if grade is None:
            raise SourceError(f"{place}: grade {written!r} is not a whole number")
        earlier = qrels.setdefault(query_id, {}).setdefault(document_id, grade)
        if earlier != grade:
            raise SourceError(
                f"{place}: document {document_id!r} is judged {grade} for query {query_id!r}, "
                f"and {earlier} above; keep one of the two lines"
            )
    reading.check_few()
    if not qrels:
        raise SourceError(f"{path}: no relevance judgments in it")
    return qrels


def _missing(*named: tuple[str, str, tuple[Container[str], Path] | None]) -> tuple[str, str, str] | None:
    """The column, the id and the file of the first id that is not there."""
    for column, identifier, ids in named:
        if ids is not None and identifier not in ids[0]:
            return column, identifier, ids[1].name
    return None


def _find_qrels(path: Path, split: str | None, option: str) -> tuple[Path, Path]:
    """The folder of a set, and its file of judgments."""
    if path.is_file():
        return path.parent.parent, path
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder; give one with corpus.jsonl, queries.jsonl and qrels/test.tsv")
    splits = find_splits(path)
    named = f"{path / 'qrels'}/{split or 'test'}.tsv"
    if split is not None and split not in splits and _UNNAMED not in splits:
        raise SourceError(f"{named}: no such file; {option} can be: {', '.join(splits) or 'none'}")
    if not splits:
        raise SourceError(f"{path}: no qrels/*.tsv in it; relevance judgments belong in qrels/test.tsv")
    chosen = splits.get(split or "test") or splits.get(_UNNAMED)
    if chosen is None and len(splits) > 1:
        example = next(iter(splits.values()))
        raise SourceError(
            f"{example.parent}: {len(splits)} files and no test.tsv; name the one to use, e.g. {example}"
        )
    return path, chosen or next(iter(splits.values()))


_UNNAMED: Final = ""


def find_splits(folder: Path) -> dict[str, Path]:
    """The files of judgments in the folder of a set, by split; that of no split is under an empty name.

    They lie in qrels/, as BEIR has it; in default/ or data/, as data sets of the hub have it; or beside the corpus, as
    qrels.tsv, qrels.test.tsv or qrels-test.tsv.
    """
    splits: dict[str, Path] = {}
    for name in _QRELS_FOLDERS:
        inside = folder / name
        for file in sorted(inside.iterdir()) if inside.is_dir() else ():
            if file.suffix.lower() in _QRELS_SUFFIXES and not file.name.startswith((".", "_", "corpus", "queries")):
                splits.setdefault(_SHARD.sub("", file.stem), file)
        if splits:
            return splits
    for file in sorted(folder.glob("qrels*")):
        if file.is_file() and file.suffix.lower() in _QRELS_SUFFIXES:
            splits.setdefault(file.stem.removeprefix("qrels").strip(".-_"), file)
    return splits


def _tables(folder: Path, name: str) -> list[Path]:
    """The files of a name, and a folder of that name with Parquet files in it, as data sets of the hub have it."""
    files = [path for suffix in TABLE_SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    inside = folder / name
    return [*files, inside] if any(inside.glob("*.parquet")) else files


def _table(folder: Path, name: str) -> Path:
    tables = _tables(folder, name)
    if not tables:
        raise SourceError(f"{folder}: no {name}.jsonl in it (nor {', '.join(TABLE_SUFFIXES[1:])})")
    return tables[0]


def read_texts(path: Path) -> Iterator[Row]:
    """The rows of a table of ids and texts, which may be a folder of Parquet files, or lines without a header.

    Raises:
        SourceError: it is of another kind, or malformed at some line.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return read_rows(path, "parquet")
    if suffix not in TABLE_SUFFIXES:
        raise SourceError(f"{path}: cannot tell what it holds; expected one of {', '.join(TABLE_SUFFIXES)}")
    if suffix == ".txt" or (suffix == ".tsv" and not _has_header(path)):
        return map(_id_and_text, read_lines(path))
    return read_rows(path)


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


def _judgments(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    """The place, query id, document id and grade of every judgment, as they are written."""
    if path.suffix.lower() not in _COLUMN_FILES:
        yield from _lines_of_judgments(path)
        return
    if path.suffix.lower() == ".json" and (mapping := _mapping(path)) is not None:
        for asked, grades in mapping.items():
            judged = grades if isinstance(grades, dict) else dict.fromkeys(map(str, grades), 1)
            yield from ((f"{path}:{asked}", asked, answer, grade) for answer, grade in judged.items())
        return
    for row in read_rows(path):
        query_id, document_id = row.identifier(QUERY_ID), row.identifier(DOCUMENT_ID)
        if query_id is None or document_id is None:
            raise SourceError(
                f"{row.place}: {_JUDGMENT} in columns such as query-id, corpus-id and score, got "
                f"{str(row.values)[:60]}"
            )
        grade = row.first(GRADE)
        yield row.place, query_id, document_id, 1 if grade is None else grade


def _mapping(path: Path) -> dict[str, dict[str, Any] | list[str]] | None:
    """Judgments as trec_eval's Python tools have them: query id to document id to grade, or to a list of documents."""
    try:
        values = json.loads(read_text(path))
    except ValueError:
        return None  # JSON lines, or no JSON: the reader of tables says which
    is_mapping = isinstance(values, dict) and all(isinstance(grades, dict | list) for grades in values.values())
    return values if is_mapping else None


def _lines_of_judgments(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    """Judgments in a text file. A header tells the order of the columns; without one it is TREC's or BEIR's."""
    order: Sequence[int] | None = None
    for row in read_lines(path):
        line = str(row.values[_LINE])
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if row.number == 1 and (order := _order(cells)) is not None:
            continue
        if order is not None and len(cells) > max(order):
            query_id, document_id, *rest = (cells[position] for position in order)
            yield row.place, query_id, document_id, rest[0] if rest else 1
            continue
        if len(cells) == 4:
            del cells[1]
        if len(cells) != 3:
            raise SourceError(f"{row.place}: {len(cells)} columns; {_JUDGMENT} between tabs")
        yield row.place, cells[0], cells[1], cells[2]


def _order(header: Sequence[str]) -> Sequence[int] | None:
    """Where query id, document id and (where there is one) grade stand; None: the line is no header."""
    names = [cell.lower() for cell in header]
    query, document, grade = (
        None if (name := column.among(names)) is None else names.index(name)
        for column in (QUERY_ID, DOCUMENT_ID, GRADE)
    )
    if query is not None and document is not None:
        return [query, document] if grade is None else [query, document, grade]
    # Other names above the same columns: only the grade's tells that this is no judgment.
    return [0, len(names) - 2, len(names) - 1] if grade == len(names) - 1 and len(names) in (3, 4) else None


def _grade(written: Any) -> int | None:
    try:
        value = float(written)
    except (TypeError, ValueError):
        return None
    return int(value) if value.is_integer() else None
