"""Results of an earlier evaluation, opened for comparing: no model is loaded."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.encoders.facts import EncodingFacts
from multigrain.errors import EvaluationError
from multigrain.evaluation.per_query import QueryRow, read_per_query
from multigrain.evaluation.reranked import read_reranking
from multigrain.evaluation.results import (
    BASE,
    EvaluationResults,
    read_results,
    read_sets,
    read_slices,
    unselected_results,
)
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.vector_sizes import read_tables
from multigrain.sources.store import open_document_table
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import TextTable

COMPARISON_FILE = "comparison.json"
PER_QUERY_FILE = "per_query.parquet"
RERANKED_FILE = "reranked_per_query.parquet"
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
    texts: Mapping[str, str]
    similarity: dict[str, SimilaritySet]
    similarities: dict[str, dict[str, Floats]]


def open_results(path: Path) -> StoredResults:
    """Open a run directory, or a folder with per_query.parquet.

    Raises:
        EvaluationError: there are no results in it.
    """
    folders = (RunDirectory(path).results_path, path)
    folder = next((folder for folder in folders if (folder / PER_QUERY_FILE).is_file()), None)
    if folder is None:
        raise EvaluationError(
            f"{path}: no {PER_QUERY_FILE} in it; give a run directory that has been evaluated, or two models and --set"
        )
    documents = RunDirectory(path).documents_path
    stored = open_document_table(documents) if documents.exists() else ()
    texts = TextTable((document.id, document.text) for document in stored)
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
                values["models"],
                read_sets(values["scores"]),
                settings,
                forgetting_threshold=threshold,
                facts={name: EncodingFacts(**facts) for name, facts in values.get("facts", {}).items()},
                vector_sizes=read_tables(values.get("vector_sizes", ())),
                slices=read_slices(values.get("slices", ())),
                reranking=read_reranking(values.get("reranking", ())),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path}: not of this version ({error}); evaluate again") from None
    else:
        results = unselected_results([BASE], (), CompareSettings())
    return results, {result.name: (result.role, result.provenance) for result in results.sets}


_SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, pa.string(), False) for name in ("set", "role", "label", "model", "sentence1", "sentence2")),
        *(pa.field(name, pa.float64(), False) for name in ("score", "similarity")),
    ]
)


def write_similarities(
    path: Path, sets: Mapping[str, SimilaritySet], similarities: Mapping[str, Mapping[str, Floats]]
) -> None:
    """Write the table, whole or not at all; where there are no similarity sets, no file is left."""
    if not sets:
        path.unlink(missing_ok=True)
        return
    rows = [
        {
            "set": name,
            "role": chosen.role,
            "label": chosen.provenance,
            "model": model,
            "sentence1": pair[0],
            "sentence2": pair[1],
            "score": gold,
            "similarity": float(similarity),
        }
        for name, chosen in sets.items()
        for model, values in similarities[name].items()
        for pair, gold, similarity in zip(chosen.pairs, chosen.gold, values, strict=True)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
    atomic_write(path, sink.getvalue())


def read_similarities(path: Path) -> tuple[dict[str, SimilaritySet], dict[str, dict[str, Floats]]]:
    """Read the table: sets by name, and set to model to similarities. A file that is not there holds none.

    Raises:
        EvaluationError: the file was not written by this version.
    """
    if not path.exists():
        return {}, {}
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path}: similarities cannot be read ({error}); evaluate again") from None
    if not table.schema.equals(_SCHEMA):
        raise EvaluationError(f"{path}: not similarities of this version; evaluate again")
    rows: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in table.to_pylist():
        rows.setdefault((row["set"], row["model"]), []).append(row)
    sets: dict[str, SimilaritySet] = {}
    similarities: dict[str, dict[str, Floats]] = {}
    for (name, model), of_model in rows.items():
        columns = {column: [row[column] for row in of_model] for column in _SCHEMA.names}
        similarities.setdefault(name, {})[model] = np.array(columns["similarity"], dtype=np.float64)
        pairs = tuple(zip(columns["sentence1"], columns["sentence2"], strict=True))
        sets.setdefault(
            name,
            SimilaritySet(name, columns["role"][0], columns["label"][0], pairs, tuple(columns["score"])),  # type: ignore[arg-type]
        )
    return sets, similarities
