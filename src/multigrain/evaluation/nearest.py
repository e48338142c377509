"""Exact nearest documents in bounded memory, with ties broken the same way every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multigrain.errors import EvaluationError
from multigrain.mining.best import Best, Indices


def nearest(
    queries: NDArray[np.float32],
    documents: Callable[[int, int], NDArray[np.float32]],
    count: int,
    depth: int,
    *,
    document_block: int = 8_192,
    query_block: int = 512,
) -> Indices:
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
    best = Best.empty(len(queries), min(depth, count))
    blocks = [slice(first, first + query_block) for first in range(0, len(queries), query_block)]
    for start in range(0, count, document_block):
        block = documents(start, min(start + document_block, count))
        _check(block, "document", queries.shape[-1])
        for rows in blocks:
            best.offer(rows, queries[rows] @ block.T, start)
    for rows in blocks:
        best.merge(rows)
    return best.result()[1]


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
