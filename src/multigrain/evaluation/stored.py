"""Results of an earlier evaluation, opened for comparing: no model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multigrain.errors import EvaluationError
from multigrain.evaluation.compare import SetInfo
from multigrain.evaluation.results import QueryRow, read_per_query, read_results
from multigrain.rundir import RunDirectory
from multigrain.sources.store import read_document_table

__all__ = ["PER_QUERY_FILE", "RESULTS_FILE", "StoredResults", "open_results"]

PER_QUERY_FILE = "per_query.parquet"
RESULTS_FILE = "evaluation.json"


@dataclass(frozen=True)
class StoredResults:
    """What a results folder holds.

    Attributes:
        rows: every query of every set, for every model.
        sets: what is known of the sets.
        texts: document id to text, as far as the run keeps its documents; sets from elsewhere are not in it.
    """

    rows: list[QueryRow]
    sets: dict[str, SetInfo]
    texts: dict[str, str]


def open_results(path: Path) -> StoredResults:
    """Open a run directory, or a folder with per_query.parquet.

    Raises:
        EvaluationError: there are no results in it.
    """
    folder = _folder(path)
    if folder is None:
        raise EvaluationError(
            f"{path}: no {PER_QUERY_FILE} in it; give a run directory that has been evaluated, or two models and --set"
        )
    results = folder / RESULTS_FILE
    sets = (
        {each.name: SetInfo(each.role, each.label) for each in read_results(results).sets} if results.exists() else {}
    )
    documents = RunDirectory(path).documents_path
    texts = {each.id: each.text for each in read_document_table(documents)} if documents.exists() else {}
    return StoredResults(read_per_query(folder / PER_QUERY_FILE), sets, texts)


def _folder(path: Path) -> Path | None:
    for folder in (RunDirectory(path).results_path, path):
        if (folder / PER_QUERY_FILE).is_file():
            return folder
    return None
