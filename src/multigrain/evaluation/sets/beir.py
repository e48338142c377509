"""Read a BEIR folder, or a user's own files of queries, documents and relevance judgments.

A BEIR folder has corpus.jsonl, queries.jsonl, and judgments in qrels/*.tsv. Corpus and queries may also be .csv, .tsv
or .parquet files, and the judgments one file, e.g. qrels.tsv. Every problem is one line that names file and line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.qrels import read_qrels
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.sets.texts import TABLE_SUFFIXES, read_texts

__all__ = ["GIVEN_JUDGMENTS", "read_beir", "read_own_files"]

GIVEN_JUDGMENTS: Final = "given relevance judgments"


def read_beir(path: Path, *, name: str, role: Role, label: str | None = None) -> EvaluationSet:
    """Read a BEIR folder.

    A document's text is its title, a space and its text, as BEIR and MTEB have it. Queries that have no
    judgments (BEIR keeps all splits' queries in one file) are left out.

    Args:
        path: the folder, whose qrels/test.tsv is taken (or the only .tsv there is, or qrels.tsv), or one file in
            its qrels/.
        name: what tables call the set.
        role: what the set is for.
        label: who judged; None for what about.json says, where there is one.

    Raises:
        EvaluationError: a missing or malformed file, duplicate ids, or judgments that name missing ids.
        SourceError: a .csv, .tsv or .parquet file cannot be read.
    """
    folder, qrels = _locate(path)
    relevant = read_qrels(qrels)
    label = label or _own_label(folder) or GIVEN_JUDGMENTS
    corpus, queries = (read_texts(_table(folder, table)) for table in ("corpus", "queries"))
    return _join(queries, corpus, relevant, name, role, label)


def read_own_files(
    queries: Path, documents: Path, qrels: Path, *, name: str, role: Role, label: str = GIVEN_JUDGMENTS
) -> EvaluationSet:
    """Make a set of three files, each in its own format. Queries that have no judgments are left out.

    Args:
        queries: ids and texts; see `texts.read_texts`.
        documents: ids and texts.
        qrels: who answers whom; see `judgments.read_qrels`.
        name: what tables call the set.
        role: what the set is for.
        label: who judged.

    Raises:
        EvaluationError: a missing or malformed file, duplicate ids, or judgments that name missing ids.
        SourceError: a .csv, .tsv or .parquet file cannot be read.
    """
    return _join(read_texts(queries), read_texts(documents), read_qrels(qrels), name, role, label)


def _join(
    queries: dict[str, str],
    corpus: dict[str, str],
    relevant: dict[str, dict[str, int]],
    name: str,
    role: Role,
    label: str,
) -> EvaluationSet:
    judged = {key: text for key, text in queries.items() if key in relevant}
    return EvaluationSet(name=name, role=role, label=label, corpus=corpus, queries=judged, relevant=relevant)


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


def _own_label(folder: Path) -> str | None:
    path = folder / "about.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # not ours: nothing in BEIR's format is called so
    label = found.get("label") if isinstance(found, dict) else None
    return label if isinstance(label, str) else None


def _table(folder: Path, name: str) -> Path:
    for suffix in TABLE_SUFFIXES:
        if (folder / f"{name}{suffix}").exists():
            return folder / f"{name}{suffix}"
    raise EvaluationError(f"{folder}: no {name}.jsonl in it (nor {', '.join(TABLE_SUFFIXES[1:])})")
