"""What an exporter is given and gives back, and what a finished run gives to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.dataset.store import open_examples
from multigrain.display.progress import Progress, SilentProgress
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import domain_sets, searched_documents
from multigrain.export.run_model import evaluated_config, run_model
from multigrain.sources.store import open_document_table
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import View


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """How a model is distilled to mean pooling.

    Attributes:
        documents: texts whose vectors are learned, as documents.
        queries: texts whose vectors are learned, as queries.
        steps: optimiser steps.
        batch_size: texts a step.
        learning_rate: the highest; it falls linearly to zero.
        seed: of the order of texts and of dropout.
    """

    documents: Sequence[str]
    queries: tuple[str, ...]
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 5e-5
    seed: int = 13


Exportable = TypeVar("Exportable", bound=SentenceTransformer | CrossEncoder)


@dataclass(frozen=True)
class _Job(Generic[Exportable]):
    """What is exported, and how.

    Attributes:
        model: the model, on the CPU. Exporters leave it as it is.
        source: what the user called it: a run directory, a folder, a hub id.
        destination: where the export will lie when it is complete. Exporters write into the folder they are given,
            which takes this place only when they succeed.
        sets: what a loss in nDCG@10 is measured on; may be empty.
        int8: write a quantised file too, where the form has one.
        progress: who is told.
    """

    model: Exportable
    source: str
    destination: Path
    sets: tuple[EvaluationSet, ...] = ()
    int8: bool = False
    progress: Progress = field(default_factory=SilentProgress)


@dataclass(frozen=True)
class ExportJob(_Job[SentenceTransformer]):
    """What is exported of an embedder; see `_Job`.

    Attributes:
        distil: train a mean-pooled model where the form cannot express the model's pooling; None refuses there.
        dtype: of the weights in folders for servers: as they are, or float32, float16, bfloat16.
    """

    distil: DistilSettings | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class RerankerJob(_Job[CrossEncoder]):
    """What is exported of a reranker; see `_Job`."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exporter has to say.

    Attributes:
        facts: what was made and measured, ready for JSON.
        lines: the same for people, and what to do next.
    """

    facts: dict[str, Any]
    lines: tuple[str, ...]


class Exporter(Protocol):
    """Writes a model in another form. Packages offer their own under the entry-point group `multigrain.exporters`."""

    def __call__(self, job: ExportJob, folder: Path) -> Exported:
        """Write the export into an empty folder, and check it.

        Raises:
            ExportError: the model cannot be written in this form, or what was written gives other vectors.
            MissingExtraError: a package that the form needs is not installed.
        """
        ...


@dataclass(frozen=True)
class FinishedRun:
    """A run that chose a model.

    Attributes:
        model: the folder of the chosen model, or of the reranker that was named.
        is_reranker: whether it is a reranker.
        exports: the folder that exports go to.
        documents: the texts of the run's documents.
        queries: the queries that the model was trained on.
        sets: held-out queries over all documents: validation queries, or test queries where there are none of them.
    """

    model: Path
    is_reranker: bool
    exports: Path
    documents: Sequence[str]
    queries: tuple[str, ...]
    sets: tuple[EvaluationSet, ...]


def open_run(path: Path, candidate: str | None = None) -> FinishedRun | None:
    """Open a run directory; None where `path` is none.

    Args:
        path: the directory.
        candidate: a reranker of the run, or the chosen model by its name; None as of `run_model.run_model`.

    Raises:
        StageOrderError: it is one, and no model has been chosen yet.
        ConfigError: its config cannot be read, or it has no such model.
        RunDirectoryError: the model's folder is gone.
    """
    run = RunDirectory(path)
    if not run.config_path.is_file():
        return None
    config = evaluated_config(run)
    taken = run_model(run, config, candidate)
    sets = list(domain_sets(config, run, searched_documents(run)))
    validation = [heldout for heldout in sets if heldout.role == "validation"]
    return FinishedRun(
        model=taken.folder,
        is_reranker=taken.is_reranker,
        exports=run.path / "exports",
        documents=View(open_document_table(run.documents_path), attrgetter("text")),
        queries=tuple(dict.fromkeys(example.query for example in open_examples(run.dataset_path))),
        sets=tuple(validation or sets),
    )
