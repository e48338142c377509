"""The one reader of BEIR folders, and of files of queries, documents and relevance judgments.

A BEIR folder has corpus.jsonl, queries.jsonl, and judgments in qrels/*.tsv. Corpus and queries may also be tables of
any other kind (a .tsv or .txt file may go without a header, as MS MARCO's do), and the judgments one file, e.g.
qrels.tsv. Judgments have TREC's four columns (query id, iteration, document id, grade), or three (query id, document
id, grade) with or without a header; other tables name their columns as BEIR does (query-id, corpus-id, score).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.columns import DOCUMENT_ID, GRADE, ID, QUERY_ID, TEXT, TITLE, no_column
from multigrain.storage.rows import Row, read_lines, read_rows

TABLE_SUFFIXES: Final = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
"""Of tables of ids and texts."""

_COLUMN_FILES: Final = (".jsonl", ".json", ".csv", ".parquet")
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
    """What the three files hold; every id in the judgments has its text.

    Attributes:
        corpus: document id to text: its title, a space and its text, as BEIR and MTEB have it.
        queries: query id to text; BEIR keeps the queries of all splits in one file.
        qrels: query id to document id to grade.
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


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


def read_judged_texts(files: BeirFiles) -> JudgedTexts:
    """Read a set.

    Raises:
        SourceError: a malformed file, duplicate ids, or judgments that name ids which are not there.
    """
    corpus, queries = dict(iterate_texts(files.corpus)), dict(iterate_texts(files.queries))
    qrels = read_qrels(files.qrels, queries=(queries, files.queries), corpus=(corpus, files.corpus))
    return JudgedTexts(corpus, queries, qrels)


def iterate_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Read ids and texts, one by one. A document's text is its title, where it has one, a space and its text.

    A text may be empty or null, as in some public sets: what is left is the title, or nothing.

    Raises:
        SourceError: a malformed line, a line without an id or a text column, or an id that is there twice.
    """
    numbers: dict[str, int] = {}
    for row in _text_rows(path):
        identifier = row.identifier(ID)
        if identifier is None:
            ids = no_column(ID, row.values) if ID.among(row.values) is None else "no id in it"
            raise SourceError(f"{row.place}: {ids}")
        first = numbers.setdefault(identifier, row.number)
        if first != row.number:
            raise SourceError(f"{row.place}: id {identifier!r} is taken by line {first}; make ids unique")
        title = row.text(TITLE) if TITLE.among(row.values) else None
        text = row.text(TEXT)
        yield identifier, " ".join(part for part in (title, text) if part)


def read_qrels(
    path: Path,
    *,
    queries: tuple[Container[str], Path] | None = None,
    corpus: tuple[Container[str], Path] | None = None,
) -> dict[str, dict[str, int]]:
    """Read relevance judgments: query id to document id to grade. A file without grades names relevant documents only.

    Args:
        path: the file.
        queries: the ids there are, and the file that has them; None to take any.
        corpus: the same for documents.

    Raises:
        SourceError: the file is missing or empty, a line has other columns, a grade is no whole number, an id is not
            there, or a pair is judged twice with different grades.
    """
    qrels: dict[str, dict[str, int]] = {}
    for place, query_id, document_id, written in _judgments(path):
        for identifier, column, ids in ((query_id, "query-id", queries), (document_id, "corpus-id", corpus)):
            if ids is not None and identifier not in ids[0]:
                raise SourceError(f"{place}: {column} {identifier!r} is not in {ids[1].name}")
        grade = _grade(written)
        if grade is None:
            raise SourceError(f"{place}: grade {written!r} is not a whole number")
        earlier = qrels.setdefault(query_id, {}).setdefault(document_id, grade)
        if earlier != grade:
            raise SourceError(
                f"{place}: document {document_id!r} is judged {grade} for query {query_id!r}, "
                f"and {earlier} above; keep one of the two lines"
            )
    if not qrels:
        raise SourceError(f"{path}: no relevance judgments in it")
    return qrels


def _find_qrels(path: Path, split: str | None, option: str) -> tuple[Path, Path]:
    """The folder of a set, and its file of judgments."""
    if path.is_file():
        return path.parent.parent, path
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder; give one with corpus.jsonl, queries.jsonl and qrels/test.tsv")
    in_folder = sorted((path / "qrels").glob("*.tsv"))
    if split is not None:
        file = path / "qrels" / f"{split}.tsv"
        if file not in in_folder:
            splits = ", ".join(there.stem for there in in_folder) or "none"
            raise SourceError(f"{file}: no such file; {option} can be: {splits}")
        return path, file
    files = in_folder or sorted(path.glob("qrels.*"))
    if not files:
        raise SourceError(f"{path}: no qrels/*.tsv in it; relevance judgments belong in qrels/test.tsv")
    test = path / "qrels" / "test.tsv"
    if test not in files and len(files) > 1:
        raise SourceError(
            f"{path / 'qrels'}: {len(files)} files and no test.tsv; name the one to use, e.g. {files[0]}"
        )
    return path, test if test in files else files[0]


def _tables(folder: Path, name: str) -> list[Path]:
    return [path for suffix in TABLE_SUFFIXES if (path := folder / f"{name}{suffix}").exists()]


def _table(folder: Path, name: str) -> Path:
    tables = _tables(folder, name)
    if not tables:
        raise SourceError(f"{folder}: no {name}.jsonl in it (nor {', '.join(TABLE_SUFFIXES[1:])})")
    return tables[0]


def _text_rows(path: Path) -> Iterator[Row]:
    suffix = path.suffix.lower()
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
    for row in read_rows(path):
        query_id, document_id = row.identifier(QUERY_ID), row.identifier(DOCUMENT_ID)
        if query_id is None or document_id is None:
            raise SourceError(
                f"{row.place}: {_JUDGMENT} in columns such as query-id, corpus-id and score, got "
                f"{str(row.values)[:60]}"
            )
        grade = row.first(GRADE)
        yield row.place, query_id, document_id, 1 if grade is None else grade


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
