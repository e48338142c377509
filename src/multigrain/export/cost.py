"""What an export costs in nDCG@10, with an interval."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from multigrain.encoders.protocol import Encoder, Floats, unit_length
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired
from multigrain.export.parity import QueryDocumentEncoder


@dataclass(frozen=True, slots=True)
class Cost:
    """What one form loses against the model it was made from, on one set. nDCG@10 is 0 to 1.

    Attributes:
        set: the set's name.
        queries: how many.
        before: the model's nDCG@10.
        after: the export's.
        loss: before minus after.
        low: lower end of the 95% paired bootstrap interval of the loss.
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

    def facts(self) -> dict[str, Any]:
        """The same, for JSON."""
        return asdict(self)


class ExportedEncoder:
    """An export as evaluation asks for it: whole batches, in the form of the model's vectors. Implements `Encoder`.

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

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Embed queries."""
        return self._scaled(self._exported.encode_query(list(texts)))

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Embed documents."""
        return self._scaled(self._exported.encode_document(list(texts)))

    def _scaled(self, vectors: Floats) -> Floats:
        return unit_length(vectors) if self._cosine else vectors


def measure_cost(before: Encoder, after: Encoder, evaluation_set: EvaluationSet, *, seed: int = 13) -> Cost:
    """Score both on a set and compare them query by query.

    Args:
        before: the model.
        after: what was made of it.
        evaluation_set: at least two queries.
        seed: of the bootstrap.

    Raises:
        EvaluationError: fewer than two queries, or unusable vectors.
    """
    scores = [evaluate_retrieval(encoder, evaluation_set) for encoder in (before, after)]
    compared = compare_paired(scores[1].ndcg_by_query, scores[0].ndcg_by_query, CompareSettings(seed=seed))
    return Cost(
        set=evaluation_set.name,
        queries=len(evaluation_set.queries),
        before=scores[0].ndcg_at_10,
        after=scores[1].ndcg_at_10,
        loss=compared.mean,
        low=compared.low,
        high=compared.high,
    )
