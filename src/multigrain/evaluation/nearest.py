"""Exact nearest documents in bounded memory, with ties broken the same way every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.errors import EvaluationError

__all__ = ["NO_DOCUMENT", "BestSoFar", "nearest"]

NO_DOCUMENT: Final = -1

_EMPTY: Final = np.iinfo(np.int64).min
_LOW_BITS: Final = 32
_POSITIONS: Final = 2**31


class BestSoFar:
    """The best documents of each query, fed block by block.

    Score and position are packed into one 64-bit key, so that selecting is one exact integer partition and
    equal scores always go to the earlier document.

    Args:
        queries: how many queries.
        depth: how many documents to keep for each.
    """

    def __init__(self, queries: int, depth: int) -> None:
        self._keys = np.full((queries, depth), _EMPTY, dtype=np.int64)

    def add(self, rows: slice, start: int, scores: NDArray[np.float32]) -> None:
        """Offer a block of documents.

        Args:
            rows: the queries that were scored.
            start: position of the block's first document.
            scores: (queries in rows, documents in the block); minus infinity never enters.
        """
        positions = np.arange(start, start + scores.shape[1], dtype=np.int64)
        keys = (_ordered(scores) << _LOW_BITS) | (_POSITIONS - positions)
        keys[np.isneginf(scores)] = _EMPTY
        depth = self._keys.shape[1]
        candidates = np.concatenate([self._keys[rows], keys], axis=1)
        self._keys[rows] = np.partition(candidates, -depth, axis=1)[:, -depth:]

    def positions(self) -> NDArray[np.int64]:
        """Positions of the documents, best first: (queries, depth); -1 where there are fewer."""
        best_first = np.sort(self._keys, axis=1)[:, ::-1]
        found = _POSITIONS - (best_first & (2**_LOW_BITS - 1))
        return np.where(best_first == _EMPTY, NO_DOCUMENT, found)


def nearest(
    queries: NDArray[np.float32],
    documents: Callable[[int, int], NDArray[np.float32]],
    count: int,
    depth: int,
    *,
    document_block: int = 8_192,
    query_block: int = 512,
) -> NDArray[np.int64]:
    """The documents with the highest dot products, exactly.

    Holds one block of document vectors and one block of scores at a time, whatever the corpus' size.

    Args:
        queries: (n, dimensions).
        documents: returns the vectors from one position up to another; asked for each block once, in order.
        count: how many documents there are.
        depth: how many to find for each query.
        document_block: documents in memory at once.
        query_block: queries scored at once.

    Returns:
        Positions, best first: (n, min(depth, count)). Equal scores go to the earlier document.

    Raises:
        EvaluationError: vectors that are not finite, or of another dimension than the queries'.
    """
    _check(queries, "query", queries.shape[-1])
    best = BestSoFar(len(queries), min(depth, count))
    for start in range(0, count, document_block):
        block = documents(start, min(start + document_block, count))
        _check(block, "document", queries.shape[-1])
        for first in range(0, len(queries), query_block):
            rows = slice(first, first + query_block)
            best.add(rows, start, queries[rows] @ block.T)
    return best.positions()


def _ordered(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integers that sort as the floats do (IEEE 754: magnitude bits of negative numbers run backwards)."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # adding zero makes -0.0 equal to 0.0
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)


def _check(vectors: NDArray[np.float32], kind: str, dimensions: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise EvaluationError(
            f"mismatched dimensions: {kind} vectors have shape {vectors.shape}, query vectors {dimensions} columns; "
            "encode queries and documents with one model"
        )
    if not np.isfinite(vectors).all():
        raise EvaluationError(
            f"the model gave {kind} vectors that are not finite (NaN or infinity); its weights are damaged or "
            "training diverged: lower the learning rate or use float32"
        )
