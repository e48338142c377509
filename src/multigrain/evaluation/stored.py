"""Results of an earlier evaluation, opened for comparing: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from multigrain.errors import EvaluationError
from multigrain.evaluation.results import (
    BASE,
    EvaluationResults,
    QueryRow,
    read_per_query,
    read_results,
    read_sets,
    unselected_results,
)
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.similarity_table import read_similarities
from multigrain.sources.store import read_document_table
from multigrain.storage.rundir import RunDirectory

COMPARISON_FILE = "comparison.json"
PER_QUERY_FILE = "per_query.parquet"
RESULTS_FILE = "evaluation.json"
SIMILARITIES_FILE = "similarities.parquet"


@dataclass(frozen=True)
class StoredResults:
    """What a results folder holds.

    Attributes:
        results: as they were compared when they were written; without sets where the folder has rows only.
        about: set to what it is for and who judged.
        rows: every query of every set, for every model.
        texts: document id to text, as far as the run keeps its documents; sets from elsewhere are not in it.
        similarity: the similarity sets, by name.
        similarities: similarity set to model to its similarity of each pair.
    """

    results: EvaluationResults
    about: Mapping[str, tuple[Role | None, str | None]]
    rows: list[QueryRow]
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
    documents = RunDirectory(path).documents_path
    texts = {document.id: document.text for document in read_document_table(documents)} if documents.exists() else {}
    similarity, similarities = read_similarities(folder / SIMILARITIES_FILE)
    results, about = _written(folder)
    rows = read_per_query(folder / PER_QUERY_FILE)
    return StoredResults(results, about, rows, texts, similarity, similarities)


def _written(folder: Path) -> tuple[EvaluationResults, dict[str, tuple[Role | None, str | None]]]:
    if (folder / RESULTS_FILE).exists():
        results = read_results(folder / RESULTS_FILE)
    elif (path := folder / COMPARISON_FILE).exists():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            settings = CompareSettings(**values["settings"])
            if "scores" not in values:  # version 0.1.0 made differences again for every comparison
                about = {name: (info["role"], info["label"]) for name, info in values["sets"].items()}
                return unselected_results([BASE], (), settings), about
            threshold = values.get("forgetting_threshold", 0.01)
            results = unselected_results(
                values["models"], read_sets(values["scores"]), settings, forgetting_threshold=threshold
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path}: not of this version ({error}); evaluate again") from None
    else:
        results = unselected_results([BASE], (), CompareSettings())
    return results, {result.name: (result.role, result.provenance) for result in results.sets}


def _folder(path: Path) -> Path | None:
    for folder in (RunDirectory(path).results_path, path):
        if (folder / PER_QUERY_FILE).is_file():
            return folder
    return None
