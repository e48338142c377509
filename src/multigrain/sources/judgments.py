"""The one reader of relevance judgments: where a set has them, and who answers whom.

Judgments have TREC's four columns (query id, iteration, document id, grade), or three (query id, document id, grade)
with or without a header, and maybe a note; other tables name their columns as BEIR does (query-id, corpus-id, score).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.columns import BESIDE_JUDGMENTS, DOCUMENT_ID, JUDGED, QUERY_ID
from multigrain.storage.labels import may_grade_no_match
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import Row, read_lines, read_rows
from multigrain.storage.separated import check_names, unquoted
from multigrain.storage.shards import parts_of_table, stem_of_table
from multigrain.storage.text import read_text

UNNAMED: Final = ""
"""The split of judgments whose file names none."""

_COLUMN_FILES: Final = (".jsonl", ".json", ".csv", ".parquet")
_QRELS_SUFFIXES: Final = (".tsv", ".txt", ".trec", ".qrels", ".qrel", *_COLUMN_FILES)
_QRELS_FOLDERS: Final = ("qrels", "default", "data")
_LINE: Final = "line"
_JUDGMENT: Final = "expected query id, document id and grade"
_LOOKED_AT: Final = 10_000  # lines, to tell which columns they have
_ITERATIONS: Final = ("0", "Q0")

_Judgment = tuple[str, str, str, Any]
"""The place, query id, document id and grade of a judgment, as they are written."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """The names of the columns of a table of judgments; a table without grades names relevant documents only."""

    query: str
    document: str
    grade: str | None


def read_qrels(
    path: Path,
    *,
    queries: tuple[Container[str], Path] | None = None,
    corpus: tuple[Container[str], Path] | None = None,
    reading: Reading | None = None,
) -> dict[str, dict[str, int]]:
    """Read relevance judgments: query id to document id to grade. A file without grades names relevant documents only.

    Args:
        path: the file; one of the parts of a table (`test-00000-of-00002.parquet`) stands for all.
        queries: the ids there are, and the file that has them; None to take any.
        corpus: the same for documents.
        reading: notes judgments, which are left out, and the columns that are not used.

    Raises:
        SourceError: the file is empty or a part of it missing, a line has other columns, no column is known to hold
            the grades, a grade is missing or no whole number, more than a fifth (`FEW`) of the judgments name an id
            that is not there, or a pair is judged twice with different grades.
    """
    reading = reading or Reading("judgments")
    qrels: dict[str, dict[str, int]] = {}
    for place, query_id, document_id, written in _judgments(path, reading, None if corpus is None else corpus[0]):
        reading.rows += 1
        missing = _missing(("query-id", query_id, queries), ("corpus-id", document_id, corpus))
        if missing is not None:
            column, unknown, name = missing
            reading.leave_out(f"{column} not in {name}", f"{place}: {column} {unknown!r} is not in {name}")
            continue
        grade = _grade(written)
        if grade is None:
            raise SourceError(
                f"{place}: grade {written!r} is not a whole number; grades are 0 (not relevant), 1, 2, …"
            )
        earlier = qrels.setdefault(query_id, {}).setdefault(document_id, grade)
        if earlier != grade:
            raise SourceError(
                f"{place}: document {document_id!r} is judged {grade} for query {query_id!r}, "
                f"and {earlier} above; keep one of the two lines"
            )
    reading.check_few()
    grades = {grade for judged in qrels.values() for grade in judged.values()}
    if grades and may_grade_no_match(min(grades), max(grades)):
        reading.remark(
            f"grades from {min(grades)} to {max(grades)}, none of them 0: each judged document counts as relevant; "
            "where some of these grades mean that it is not, write 0 instead"
        )
    if not qrels:
        raise SourceError(f"{path}: no relevance judgments in it")
    return qrels


def find_splits(folder: Path) -> dict[str, Path]:
    """The files of judgments in the folder of a set, by split; that of no split is under an empty name.

    Raises:
        SourceError: a split has several files; see `only_file`.
    """
    return {split: only_file(files) for split, files in split_files(folder).items()}


def split_files(folder: Path) -> dict[str, list[Path]]:
    """All files of judgments in the folder of a set, by split.

    They lie in qrels/, as BEIR has it; in default/ or data/, as data sets of the hub have it; or beside the corpus, as
    qrels.tsv, qrels.test.tsv or qrels-test.tsv.
    """
    splits: dict[str, list[Path]] = defaultdict(list)
    for name in _QRELS_FOLDERS:
        inside = folder / name
        for file in sorted(inside.iterdir()) if inside.is_dir() else ():
            if file.suffix.lower() in _QRELS_SUFFIXES and not file.name.startswith((".", "_", "corpus", "queries")):
                splits[stem_of_table(file)].append(file)
        if splits:
            return splits
    for file in sorted(folder.glob("qrels*")):
        if file.is_file() and file.suffix.lower() in _QRELS_SUFFIXES:
            splits[stem_of_table(file).removeprefix("qrels").strip(".-_")].append(file)
    return splits


def only_file(files: Sequence[Path]) -> Path:
    """The file of a split; of a split in parts, the first.

    Raises:
        SourceError: there are several that are not parts of one table, or a part is missing.
    """
    first, *others = files
    parts = parts_of_table(first)
    beside = next((other for other in others if other not in parts), None)
    if beside is not None:
        raise SourceError(
            f"{beside}: {first.name} beside it has judgments of the same split; remove one of the two, or name the "
            "file to use instead of the folder"
        )
    return first


def _missing(*named: tuple[str, str, tuple[Container[str], Path] | None]) -> tuple[str, str, str] | None:
    """The column, the id and the file of the first id that is not there."""
    for column, identifier, ids in named:
        if ids is not None and identifier not in ids[0]:
            return column, identifier, ids[1].name
    return None


def _judgments(path: Path, reading: Reading, documents: Container[str] | None) -> Iterator[_Judgment]:
    for part in parts_of_table(path):
        yield from _judgments_in(part, reading, documents)


def _judgments_in(path: Path, reading: Reading, documents: Container[str] | None) -> Iterator[_Judgment]:
    if path.suffix.lower() not in _COLUMN_FILES:
        first = next(read_lines(path), None)
        header = None if first is None or first.number > 1 else _cells(first)
        if header is not None and _named(header) is not None:
            yield from _in_columns(_below(header, path), reading)
        else:
            yield from _lines_of_judgments(path, documents)
        return
    if path.suffix.lower() == ".json" and (mapping := _mapping(path)) is not None:
        for asked, grades in mapping.items():
            judged = grades if isinstance(grades, dict) else dict.fromkeys(map(str, grades), 1)
            yield from ((f"{path}:{asked}", asked, answer, grade) for answer, grade in judged.items())
        return
    yield from _in_columns(read_rows(path, part=True), reading)


def _in_columns(rows: Iterator[Row], reading: Reading) -> Iterator[_Judgment]:
    """Judgments of a table whose columns have names. Either all of its rows have a grade, or none has."""
    layouts: dict[tuple[str, ...], _Columns] = {}
    for row in rows:
        names = tuple(row.values)
        if (columns := layouts.get(names)) is None:
            columns = _columns(row)
            if any((columns.grade is None) != (other.grade is None) for other in layouts.values()):
                raise SourceError(
                    f"{row.place}: {'no' if columns.grade is None else 'a'} grade, unlike the rows above"
                )
            layouts[names] = columns
            reading.note_columns(row, using(columns.query, columns.document, columns.grade, *BESIDE_JUDGMENTS))
        query_id, document_id = row.identifier(columns.query), row.identifier(columns.document)
        if query_id is None or document_id is None:
            raise _no_judgment(row)
        grade = 1 if columns.grade is None else row.first(columns.grade)
        if grade is None:
            raise SourceError(
                f"{row.place}: no grade in {columns.grade!r}; give one (0: not relevant), or leave the row out"
            )
        yield row.place, query_id, document_id, grade


def _columns(row: Row) -> _Columns:
    """The columns of a row.

    Raises:
        SourceError: it has none for ids; or none for grades, and one of which nobody knows what it holds.
    """
    columns = _named(tuple(row.values))
    if columns is None:
        raise _no_judgment(row)
    known = (QUERY_ID, DOCUMENT_ID, *BESIDE_JUDGMENTS)
    unknown = [name for name in row.values if all(column.among([name]) is None for column in known)]
    if columns.grade is None and unknown:
        names, others = (", ".join(map(repr, some)) for some in (row.values, unknown))
        raise SourceError(
            f"{row.place}: no column is known to hold the grades; its columns are {names}: rename the one that does "
            f"to score, or remove {others} if all rows are relevant"
        )
    return columns


def _named(names: Sequence[str]) -> _Columns | None:
    """The columns of a table by its names; None where they are no names of columns of judgments."""
    query, document, grade = (column.among(names) for column in (QUERY_ID, DOCUMENT_ID, JUDGED))
    if query is not None and document is not None:
        return _Columns(query, document, grade)
    # Other names above the same columns: only the grade's tells that this is no judgment, whose note may say the same.
    is_usual = (
        grade is not None
        and grade == names[-1]
        and len(names) in (3, 4)
        and not any(_grade(name) is not None for name in names)
    )
    return _Columns(names[0], names[-2], grade) if is_usual else None


def _no_judgment(row: Row) -> SourceError:
    return SourceError(
        f"{row.place}: {_JUDGMENT} in columns such as query-id, corpus-id and score, got {str(row.values)[:60]}"
    )


def _mapping(path: Path) -> dict[str, dict[str, Any] | list[str]] | None:
    """Judgments as trec_eval's Python tools have them: query id to document id to grade, or to a list of documents."""
    try:
        values = json.loads(read_text(path))
    except ValueError:
        return None  # JSON lines, or no JSON: the reader of tables says which
    is_mapping = isinstance(values, dict) and all(isinstance(grades, dict | list) for grades in values.values())
    return values if is_mapping else None


def _below(header: Sequence[str], path: Path) -> Iterator[Row]:
    """The rows of a text file under its header; cells that are empty at a row's end may be missing."""
    check_names(header, str(path))
    for row in islice(read_lines(path), 1, None):
        cells = _cells(row)
        if len(cells) > len(header):
            raise SourceError(f"{row.place}: {len(cells)} columns, and the header has {len(header)}")
        yield Row(row.before, row.number, dict(zip(header, cells, strict=False)))


def _lines_of_judgments(path: Path, documents: Container[str] | None) -> Iterator[_Judgment]:
    """Judgments in a text file without a header: TREC's columns or BEIR's."""
    is_trec = _is_trec(path, documents)
    for row in read_lines(path):
        cells = _cells(row)
        if len(cells) == 4:
            del cells[1 if is_trec else 3]
        if len(cells) != 3:
            raise SourceError(f"{row.place}: {len(cells)} columns; {_JUDGMENT} between tabs")
        yield row.place, cells[0], cells[1], cells[2]


def _is_trec(path: Path, documents: Container[str] | None) -> bool:
    """Whether lines of four cells have TREC's columns, and no note behind query id, document id and grade.

    Args:
        path: the file.
        documents: their ids, where they are known.

    Raises:
        SourceError: they may be either, or neither.
    """
    lines = [cells for row in islice(read_lines(path), _LOOKED_AT) if len(cells := _cells(row)) == 4]
    if not lines:
        return True
    _, second, third, fourth = zip(*lines, strict=True)
    if set(second) <= set(_ITERATIONS):
        return True
    may_be_noted, may_be_trec = (all(_grade(cell) is not None for cell in cells) for cells in (third, fourth))
    if may_be_noted and may_be_trec:
        # Where both columns are numbers, the one with the documents has ids that there are, or more different ones.
        ids: Container[str] = () if documents is None else documents
        found = [sum(cell in ids for cell in cells) for cells in (second, third)]
        noted, trec = found if found[0] != found[1] else (len(set(second)), len(set(third)))
        may_be_noted, may_be_trec = noted > trec, trec > noted
    if may_be_noted == may_be_trec:
        raise SourceError(
            f"{path}: cannot tell what its four columns are: TREC's (query id, iteration, document id, grade), or "
            "query id, document id, grade and a note; write a header above them, e.g. query-id, corpus-id, score, note"
        )
    return may_be_trec


def _cells(row: Row) -> list[str]:
    line = str(row.values[_LINE])
    return [unquoted(cell.strip()) for cell in (line.split("\t") if "\t" in line else line.split())]


def _grade(written: Any) -> int | None:
    try:
        value = float(getattr(written, "number", written))  # of a class, its number
    except (TypeError, ValueError):
        return None
    return int(value) if value.is_integer() else None
