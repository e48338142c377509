"""Exact nearest neighbours in bounded memory: blocks of queries against blocks of the corpus."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Indices", "top_k"]

Floats: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.int64]

_QUERY_BLOCK = 256
_CORPUS_BLOCK = 16_384


def top_k(queries: Floats, corpus: Floats, k: int) -> tuple[Floats, Indices]:
    """The k nearest corpus rows of each query by inner product, nearest first.

    Ties go to the smaller corpus index, so that results do not depend on block sizes.

    Args:
        queries: (n, d), L2-normalised for cosine.
        corpus: (m, d); may be a memory map, which is read block by block.
        k: how many; m where the corpus is smaller.

    Returns:
        Similarities (n, k) and corpus indices (n, k).
    """
    k = min(k, len(corpus))
    scores = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = queries[start : start + _QUERY_BLOCK]
        best = np.empty((len(block), 0), dtype=np.float32)
        where = np.empty((len(block), 0), dtype=np.int64)
        for offset in range(0, len(corpus), _CORPUS_BLOCK):
            part = block @ np.asarray(corpus[offset : offset + _CORPUS_BLOCK]).T
            columns = np.broadcast_to(np.arange(offset, offset + part.shape[1]), part.shape)
            best, where = _keep_best(np.hstack([best, part]), np.hstack([where, columns]), k)
        scores[start : start + len(block)] = best
        indices[start : start + len(block)] = where
    return scores, indices


def _keep_best(scores: Floats, columns: Indices, k: int) -> tuple[Floats, Indices]:
    if scores.shape[1] > k:
        kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, columns = np.take_along_axis(scores, kept, axis=1), np.take_along_axis(columns, kept, axis=1)
    order = np.lexsort((columns, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(columns, order, axis=1)
