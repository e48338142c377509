"""Approximate search for corpora that exact search takes too long over, with its recall measured and not assumed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from multigrain.display.install import install_line
from multigrain.encoders.protocol import Floats
from multigrain.errors import MissingExtraError
from multigrain.mining.best import NO_ROW, Indices, Mask, Rows
from multigrain.mining.search import rows_at, top_k

_BLOCK: Final = 32_768
_EXPANSIONS: Final = (64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an approximate one holds.

    Attributes:
        value: mean share over the sampled queries, 0-1.
        queries: how many were sampled.
        depth: neighbours compared a query.
        expansion: the search effort (HNSW's ef) that it was measured at.
    """

    value: float
    queries: int
    depth: int
    expansion: int


class ApproximateSearch:
    """usearch's HNSW graph over the corpus, in half precision. Found rows are scored again exactly.

    The graph is in memory: about 2 × dimensions + 150 bytes a row, a quarter of float32 vectors and less.

    Args:
        corpus: (m, d), L2-normalised; added block by block.
        threads: 0 for one a core.

    Raises:
        MissingExtraError: usearch is not installed.
    """

    def __init__(self, corpus: Rows, *, threads: int = 0) -> None:
        if importlib.util.find_spec("usearch") is None:
            raise MissingExtraError("usearch", "approximate search", install_line("ann"))
        from usearch.index import Index

        self._corpus = corpus
        self._threads = threads
        dimensions = int(np.asarray(corpus[0:1]).shape[1])
        self._index: Any = Index(ndim=dimensions, metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        for start in range(0, len(corpus), _BLOCK):
            block = np.ascontiguousarray(corpus[start : start + _BLOCK], dtype=np.float32)
            self._index.add(np.arange(start, start + len(block), dtype=np.uint64), block, threads=threads)

    def tune(self, queries: Floats, *, depth: int, recall: float, sample: int = 200, seed: int = 0) -> Recall:
        """Search harder until enough is found, as measured against exact search; returns the last measurement.

        Args:
            queries: (n, d); a seeded sample of them is searched both ways.
            depth: neighbours compared a query.
            recall: the one to reach.
            sample: queries sampled.
            seed: of the sample.
        """
        chosen = np.random.default_rng(seed).permutation(len(queries))[:sample]
        depth = min(depth, len(self._corpus))
        _, exact = top_k(queries[chosen], self._corpus, depth)
        for expansion in _EXPANSIONS:
            self._index.expansion_search = max(expansion, depth)
            value = recall_of(self._rows(queries[chosen], depth), exact)
            measured = Recall(value, len(chosen), depth, int(self._index.expansion_search))
            if value >= recall:
                break
        return measured

    def __call__(self, queries: Floats, k: int, ceilings: Floats | None, left_out: Mask) -> tuple[Floats, Indices]:
        """Find rows as `top_k` does, approximately. Margins thin out what was found, so twice as many are sought."""
        rows = self._rows(queries, min(2 * k if ceilings is not None else k, len(self._corpus)))
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        for number, own in enumerate(rows):
            real = own != NO_ROW
            scores[number, real] = rows_at(self._corpus, own[real]) @ queries[number]
        hidden = (rows == NO_ROW) | left_out[rows]
        if ceilings is not None:
            hidden |= scores > ceilings[:, None]
        scores[hidden], rows[hidden] = -np.inf, NO_ROW
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _rows(self, queries: Floats, k: int) -> Indices:
        matches = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k, threads=self._threads)
        keys = np.asarray(matches.keys).reshape(len(queries), -1).astype(np.int64)
        if hasattr(matches, "counts"):
            keys[np.arange(keys.shape[1])[None, :] >= np.asarray(matches.counts)[:, None]] = NO_ROW
        return keys


def recall_of(approximate: Indices, exact: Indices) -> float:
    """The mean share of each exact row list that an approximate one holds."""
    pairs = zip(approximate, exact, strict=True)
    return float(np.mean([np.isin(true, own[own != NO_ROW]).sum() / max(len(true), 1) for own, true in pairs]))
