"""What an export needs of a finished run: its model, its held-out queries, its texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multigrain.config.file import load_config
from multigrain.dataset.store import open_examples
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import domain_sets
from multigrain.sources.store import read_document_table
from multigrain.storage.rundir import RunDirectory


@dataclass(frozen=True)
class FinishedRun:
    """A run that chose a model.

    Attributes:
        model: the folder of the chosen model.
        exports: the folder that exports go to.
        documents: the texts of the run's documents.
        queries: the queries that the model was trained on.
        sets: held-out queries over all documents: validation queries, or test queries where there are none of them.
    """

    model: Path
    exports: Path
    documents: tuple[str, ...]
    queries: tuple[str, ...]
    sets: tuple[EvaluationSet, ...]


def open_run(path: Path) -> FinishedRun | None:
    """Open a run directory; None where `path` is none.

    Raises:
        StageOrderError: it is one, and no model has been chosen yet.
        ConfigError: its config cannot be read.
    """
    run = RunDirectory(path)
    if not run.config_path.is_file():
        return None
    run.require("results", f"multigrain evaluate {run.config_path} --run {path}")
    documents = read_document_table(run.documents_path)
    sets = list(domain_sets(load_config(run.config_path), run, documents))
    validation = [heldout for heldout in sets if heldout.role == "validation"]
    return FinishedRun(
        model=run.model_path,
        exports=run.path / "exports",
        documents=tuple(document.text for document in documents),
        queries=tuple(dict.fromkeys(example.query for example in open_examples(run.dataset_path))),
        sets=tuple(validation or sets),
    )
