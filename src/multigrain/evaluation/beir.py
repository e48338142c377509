"""Read a BEIR folder: corpus.jsonl, queries.jsonl, and relevance judgments in qrels/*.tsv.

Corpus and queries may also be .csv, .tsv or .parquet files with the same columns (`_id` or `id`, `text`, and `title`
for documents), and the judgments one file, qrels.tsv or qrels.txt. Judgments come with three columns (query-id,
corpus-id, score; a header is skipped) or in TREC's four (query id, iteration, document id, grade). Every problem is
one line that names the file and the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets import EvaluationSet, Role
from multigrain.sources.files import read_rows

__all__ = ["GIVEN_JUDGMENTS", "read_beir", "read_qrels"]

GIVEN_JUDGMENTS: Final = "given relevance judgments"
_TABLES: Final = (".jsonl", ".csv", ".tsv", ".parquet")
_GRADE_HEADERS: Final = frozenset({"score", "grade", "relevance", "rel", "label"})


def read_beir(path: Path, *, name: str, role: Role, label: str = GIVEN_JUDGMENTS) -> EvaluationSet:
    """Read a BEIR folder.

    A document's text is its title, a space and its text, as BEIR and MTEB have it. Queries that have no
    judgments (BEIR keeps all splits' queries in one file) are left out.

    Args:
        path: the folder, whose qrels/test.tsv is taken (or the only .tsv there is, or qrels.tsv), or one file in
            its qrels/.
        name: what tables call the set.
        role: what the set is for.
        label: who judged.

    Raises:
        EvaluationError: a missing or malformed file, duplicate ids, or judgments that name missing ids.
        SourceError: a .csv, .tsv or .parquet file cannot be read.
    """
    folder, qrels = _locate(path)
    relevant = read_qrels(qrels)
    corpus = {
        key: " ".join(part for part in (_text(row, "title", at), _text(row, "text", at)) if part)
        for key, row, at in _records(folder, "corpus")
    }
    queries = {key: _text(row, "text", at) for key, row, at in _records(folder, "queries") if key in relevant}
    return EvaluationSet(name=name, role=role, label=label, corpus=corpus, queries=queries, relevant=relevant)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read relevance judgments: query id to document id to grade.

    Raises:
        EvaluationError: the file is missing or empty, a line has other columns, a grade is no whole number, or
            a pair is judged twice with different grades.
    """
    relevant: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) == 4:
            del fields[1]
        if len(fields) != 3:
            raise EvaluationError(
                f"{path}:{number}: {len(fields)} columns; expected query id, document id and grade between tabs"
            )
        query_id, document_id, written = fields
        try:
            grade = int(written)
        except ValueError:
            if number == 1 and written.lower() in _GRADE_HEADERS:
                continue
            raise EvaluationError(f"{path}:{number}: grade {written!r} is not a whole number") from None
        known = relevant.setdefault(query_id, {}).setdefault(document_id, grade)
        if known != grade:
            raise EvaluationError(
                f"{path}:{number}: document {document_id!r} is judged {grade} for query {query_id!r}, "
                f"and {known} above; keep one of the two lines"
            )
    if not relevant:
        raise EvaluationError(f"{path}: no relevance judgments in it")
    return relevant


def _locate(path: Path) -> tuple[Path, Path]:
    if path.is_file():
        return path.parent.parent, path
    if not path.is_dir():
        raise EvaluationError(f"{path}: no such folder; give one with corpus.jsonl, queries.jsonl and qrels/test.tsv")
    found = sorted((path / "qrels").glob("*.tsv")) or sorted(path.glob("qrels.*"))
    if not found:
        raise EvaluationError(f"{path}: no qrels/*.tsv in it; relevance judgments belong in qrels/test.tsv")
    test = path / "qrels" / "test.tsv"
    if test not in found and len(found) > 1:
        raise EvaluationError(
            f"{path / 'qrels'}: {len(found)} files and no test.tsv; name the one to use, e.g. {found[0]}"
        )
    return path, test if test in found else found[0]


def _records(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield id, record and "file:line" of a table whose ids must be unique."""
    seen: dict[str, int] = {}
    path = next((folder / f"{name}{suffix}" for suffix in _TABLES if (folder / f"{name}{suffix}").exists()), None)
    if path is None:
        raise EvaluationError(f"{folder}: no {name}.jsonl in it (nor {', '.join(_TABLES[1:])})")
    for number, record in _json_lines(path) if path.suffix == ".jsonl" else read_rows(path):
        at = f"{path}:{number}"
        key = record.get("_id", record.get("id"))
        if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
            raise EvaluationError(f"{at}: expected an `_id`, got {str(record)[:60]}")
        first = seen.setdefault(str(key), number)
        if first != number:
            raise EvaluationError(f"{at}: id {str(key)!r} is taken by line {first}; make ids unique")
        yield str(key), record, at


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object, one at a time: a corpus may be larger than memory allows to hold twice."""
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise EvaluationError(f"{path}:{number}: expected an object with an `_id`, got {line[:60]!r}")
        yield number, record


def _text(record: dict[str, Any], field: str, at: str) -> str:
    value = record.get(field, "" if field == "title" else None)
    if value is None and field == "title":
        return ""
    if not isinstance(value, str):
        raise EvaluationError(f"{at}: `{field}` must be a text, got {value!r}")
    return value.strip()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as handle:
            for number, raw in enumerate(handle, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if line:
                    yield number, line
    except UnicodeDecodeError:
        raise EvaluationError(f"{path}:{number}: not UTF-8 text; convert the file to UTF-8") from None
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from None
