"""What an export costs in nDCG@10, with an interval."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from multigrain.display.progress import Progress
from multigrain.encoders.protocol import Encoder, Floats, Role, RoleEncoder, unit_length
from multigrain.evaluation.retrieval import SetScores, evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired
from multigrain.export.job import ExportJob
from multigrain.export.parity import QueryDocumentEncoder

_SEED: Final = 13


@dataclass(frozen=True, slots=True)
class Cost:
    """What one form loses against the model it was made from, on one set. nDCG@10 is 0 to 1.

    Attributes:
        set: the set's name.
        queries: how many.
        before: the model's nDCG@10.
        after: the export's.
        loss: before minus after.
        low: lower end of the 95% paired interval of the loss.
        high: upper end.
    """

    set: str
    queries: int
    before: float
    after: float
    loss: float
    low: float
    high: float

    def __str__(self) -> str:
        points = f"{100 * self.loss:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return (
            f"nDCG@10 on {self.set} ({self.queries} queries): {self.before:.3f} → {self.after:.3f}, a loss of {points}"
        )


class ExportedEncoder(RoleEncoder):
    """An export as evaluation asks for it: whole batches, in the form of the model's vectors.

    Args:
        exported: the export.
        graph: its file, whose content names it.
        cosine: whether the model compares by cosine, and vectors get length 1.
    """

    def __init__(self, exported: QueryDocumentEncoder, graph: Path, *, cosine: bool) -> None:
        self._exported = exported
        self._graph = graph
        self._cosine = cosine

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the graph's file."""
        with self._graph.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        embed = self._exported.encode_query if role == "query" else self._exported.encode_document
        vectors = embed(list(texts))
        return unit_length(vectors) if self._cosine else vectors


def measure_costs(job: ExportJob, before: Encoder, after: Encoder, form: str) -> tuple[Cost, ...]:
    """The cost on each of a job's sets.

    Args:
        job: names the sets, each of at least two queries, and who is told.
        before: the model.
        after: what was made of it.
        form: what progress calls that.

    Raises:
        EvaluationError: fewer than two queries, or unusable vectors.
    """
    return tuple(measure_cost(before, after, each, job.progress, form) for each in job.sets)


def measure_cost(
    before: Encoder, after: Encoder, evaluation_set: EvaluationSet, progress: Progress, form: str
) -> Cost:
    """The cost on one set.

    Args:
        before: the model.
        after: another form of it.
        evaluation_set: at least two queries.
        progress: who is told.
        form: what progress calls the other form.

    Raises:
        EvaluationError: fewer than two queries, or unusable vectors.
    """
    with progress.task(f"Measuring {form} on {evaluation_set.name}", None):
        model, export = (evaluate_retrieval(encoder, evaluation_set) for encoder in (before, after))
    return cost_of(evaluation_set, model, export)


def cost_of(evaluation_set: EvaluationSet, model: SetScores, export: SetScores) -> Cost:
    """The cost on one set, from the scores of both forms.

    Args:
        evaluation_set: at least two queries.
        model: scores of the model.
        export: scores of the other form.
    """
    clusters = evaluation_set.clusters
    lost = compare_paired(export.ndcg_by_query, model.ndcg_by_query, CompareSettings(seed=_SEED), clusters)
    figures = (model.ndcg_at_10, export.ndcg_at_10)
    return Cost(evaluation_set.name, len(evaluation_set.queries), *figures, lost.mean, lost.low, lost.high)
