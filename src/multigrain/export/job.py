"""What an exporter is given and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sentence_transformers import SentenceTransformer

from multigrain.display.progress import Progress, SilentProgress
from multigrain.evaluation.sets.retrieval_set import EvaluationSet


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

    documents: tuple[str, ...]
    queries: tuple[str, ...]
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 5e-5
    seed: int = 13


@dataclass(frozen=True)
class ExportJob:
    """What is exported, and how.

    Attributes:
        model: the model, on the CPU. Exporters leave it as it is.
        source: what the user called it: a run directory, a folder, a hub id.
        destination: where the export will lie when it is complete. Exporters write into the folder they are given,
            which takes this place only when they succeed.
        sets: what a loss in nDCG@10 is measured on; may be empty.
        int8: write a quantised file too, where the form has one.
        distil: train a mean-pooled model where the form cannot express the model's pooling; None refuses there.
        dtype: of the weights in folders for servers: as they are, or float32, float16, bfloat16.
        progress: who is told.
    """

    model: SentenceTransformer
    source: str
    destination: Path
    sets: tuple[EvaluationSet, ...] = ()
    int8: bool = False
    distil: DistilSettings | None = None
    dtype: str | None = None
    progress: Progress = field(default_factory=SilentProgress)


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
