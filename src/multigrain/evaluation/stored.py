"""Results of an earlier evaluation, opened for comparing: no model is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from multigrain.errors import EvaluationError
from multigrain.evaluation.compare import SetInfo
from multigrain.evaluation.results import QueryRow, read_per_query, read_results
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.evaluation.similarity_table import read_similarities
from multigrain.sources.store import read_document_table
from multigrain.storage.rundir import RunDirectory

__all__ = ["COMPARISON_FILE", "PER_QUERY_FILE", "RESULTS_FILE", "SIMILARITIES_FILE", "StoredResults", "open_results"]

COMPARISON_FILE = "comparison.json"
PER_QUERY_FILE = "per_query.parquet"
RESULTS_FILE = "evaluation.json"
SIMILARITIES_FILE = "similarities.parquet"


@dataclass(frozen=True)
class StoredResults:
    """What a results folder holds.

    Attributes:
        rows: every query of every set, for every model.
        sets: what is known of the sets.
        texts: document id to text, as far as the run keeps its documents; sets from elsewhere are not in it.
        similarity: the similarity sets, by name.
        similarities: similarity set to model to its similarity of each pair.
    """

    rows: list[QueryRow]
    sets: dict[str, SetInfo]
    texts: dict[str, str]
    similarity: dict[str, SimilaritySet]
    similarities: dict[str, dict[str, Floats]]


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
    sets = _set_infos(folder)
    documents = RunDirectory(path).documents_path
    texts = {each.id: each.text for each in read_document_table(documents)} if documents.exists() else {}
    similarity, similarities = read_similarities(folder / SIMILARITIES_FILE)
    return StoredResults(read_per_query(folder / PER_QUERY_FILE), sets, texts, similarity, similarities)


def _set_infos(folder: Path) -> dict[str, SetInfo]:
    if (folder / RESULTS_FILE).exists():
        return {each.name: SetInfo(each.role, each.label) for each in read_results(folder / RESULTS_FILE).sets}
    if not (folder / COMPARISON_FILE).exists():
        return {}
    try:
        kept = json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))["sets"]
        return {name: SetInfo(each["role"], each["label"]) for name, each in kept.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{folder / COMPARISON_FILE}: not of this version ({error}); evaluate again") from None


def _folder(path: Path) -> Path | None:
    for folder in (RunDirectory(path).results_path, path):
        if (folder / PER_QUERY_FILE).is_file():
            return folder
    return None
