"""Results of an earlier evaluation, opened for comparing: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from multigrain.errors import EvaluationError
from multigrain.evaluation.results import BASE, QueryRow, SetResult, read_per_query, read_results, read_sets
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.evaluation.significance import CompareSettings
from multigrain.evaluation.similarity_table import read_similarities
from multigrain.sources.store import read_document_table
from multigrain.storage.rundir import RunDirectory

__all__ = ["COMPARISON_FILE", "PER_QUERY_FILE", "RESULTS_FILE", "SIMILARITIES_FILE", "StoredResults", "open_results"]

COMPARISON_FILE = "comparison.json"
PER_QUERY_FILE = "per_query.parquet"
RESULTS_FILE = "evaluation.json"
SIMILARITIES_FILE = "similarities.parquet"


@dataclass(frozen=True)
class _Written:
    """What the file beside the rows says.

    Attributes:
        base: the model that others were compared with.
        settings: how.
        sets: every set with its differences; empty where the folder has none.
        about: set to what it is for and who judged.
    """

    base: str = BASE
    settings: CompareSettings = field(default_factory=CompareSettings)
    sets: tuple[SetResult, ...] = ()
    about: Mapping[str, tuple[Role | None, str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredResults:
    """What a results folder holds.

    Attributes:
        written: how the results were compared when they were written.
        rows: every query of every set, for every model.
        texts: document id to text, as far as the run keeps its documents; sets from elsewhere are not in it.
        similarity: the similarity sets, by name.
        similarities: similarity set to model to its similarity of each pair.
    """

    written: _Written
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
    return StoredResults(_written(folder), read_per_query(folder / PER_QUERY_FILE), texts, similarity, similarities)


def _written(folder: Path) -> _Written:
    if (folder / RESULTS_FILE).exists():
        results = read_results(folder / RESULTS_FILE)
        settings = CompareSettings(results.bootstrap_samples, results.confidence, seed=results.seed)
        return _Written(results.base, settings, results.sets, _about(results.sets))
    path = folder / COMPARISON_FILE
    if not path.exists():
        return _Written()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings = CompareSettings(**values["settings"])
        if "scores" not in values:  # before 0.2: differences were made again for every comparison
            about = {name: (info["role"], info["label"]) for name, info in values["sets"].items()}
            return _Written(settings=settings, about=about)
        sets = read_sets(values["scores"])
        return _Written(values["models"][0], settings, sets, _about(sets))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EvaluationError(f"{path}: not of this version ({error}); evaluate again") from None


def _about(sets: tuple[SetResult, ...]) -> dict[str, tuple[Role | None, str | None]]:
    return {result.name: (result.role, result.provenance) for result in sets}


def _folder(path: Path) -> Path | None:
    for folder in (RunDirectory(path).results_path, path):
        if (folder / PER_QUERY_FILE).is_file():
            return folder
    return None
