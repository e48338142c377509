"""What an export costs in nDCG@10, with an interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multigrain.encoders.encoder import Encoder
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.significance import compare_paired
from multigrain.export.parity import QueryDocumentEncoder

__all__ = ["Cost", "EncoderOf", "measure_cost"]


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


class EncoderOf:
    """An export as evaluation asks for it: whole batches, vectors of length 1 where the model compares by cosine.

    Args:
        exported: the export.
        cosine: whether the model compares by cosine.
    """

    def __init__(self, exported: QueryDocumentEncoder, *, cosine: bool) -> None:
        self._exported = exported
        self._cosine = cosine

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed queries."""
        return self._scaled(self._exported.encode_query(texts))

    def encode_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed documents."""
        return self._scaled(self._exported.encode_document(texts))

    def _scaled(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._cosine:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


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
    compared = compare_paired(scores[1].ndcg_by_query, scores[0].ndcg_by_query, seed=seed)
    return Cost(
        set=evaluation_set.name,
        queries=len(evaluation_set.queries),
        before=scores[0].ndcg_at_10,
        after=scores[1].ndcg_at_10,
        loss=compared.mean,
        low=compared.low,
        high=compared.high,
    )
