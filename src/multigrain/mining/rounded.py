"""The same nearest neighbours in half the time: a first pass in bfloat16, and the few rows that may count in float32.

A score of rounded vectors lies within a known bound of the score itself: by Cauchy and Schwarz from the norms of what
rounding took away, by the usual analysis of a sum of products in float32 (Higham, *Accuracy and Stability of Numerical
Algorithms*, 3.1), and by half a unit in the last place of the rounded score. The first pass keeps more rows than are
asked for. They are scored again in float32, and a query is settled where whatever was not kept is, by the bound,
further away than its k-th. Queries that are not settled are left to whoever asked.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from multigrain.encoders.protocol import Floats
from multigrain.mining.best import EMPTY, NO_ROW, Best, Mask, pack, unpack
from multigrain.storage.hardware import cpu_multiplies_bf16

# Below these the second look costs more than the first pass saves.
_FEWEST_QUERIES: Final = 256
_FEWEST_ROWS: Final = 16_384
_UNIT_FLOAT32: Final = 2.0**-24
_UNIT_BF16: Final = 2.0**-8
_TINY: Final = 1e-30  # numbers that the processor takes for zero
_PAIRS: Final = 512
_SPARE: Final = 64
_MINUS_INFINITY: Final = np.int16(-128)  # its bits


def rounding_pays(queries: int, corpus: int, k: int) -> bool:
    """Whether a first pass in bfloat16 is faster here."""
    if queries < _FEWEST_QUERIES or corpus < max(_FEWEST_ROWS, 8 * k):
        return False
    return cpu_multiplies_bf16()


class RoundedPass:
    """A search under way: every block of the corpus is `round`ed and `look`ed through, then again `measure`d.

    Different threads may work for different queries at once.

    Args:
        queries: (n, d) float32.
        k: rows asked for.
        ceilings: (n,) the highest score that counts; None for no limit.
    """

    def __init__(self, queries: Floats, k: int, ceilings: Floats | None) -> None:
        import torch

        self._queries, self._k, self._ceilings = queries, k, ceilings
        self._best = Best.empty(len(queries), k + k // 3 + _SPARE)
        self._rounded = torch.from_numpy(queries).to(torch.bfloat16)
        own = self._rounded.to(torch.float32).numpy()
        self._lost, self._length = _norms(queries - own), np.maximum(_norms(queries), _norms(own))
        self._corpus_lost, self._corpus_length = [0.0], [0.0]
        self._exact = np.full(self._best.keys.shape, -np.inf, dtype=np.float32)
        self.scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        self.rows = np.full((len(queries), k), NO_ROW, dtype=np.int64)
        self.unsettled = np.zeros(len(queries), dtype=bool)

    def round(self, block: Floats, out: Any) -> None:
        """Part of the corpus in bfloat16, into `out`; its norms enter the bound."""
        import torch

        out.copy_(torch.from_numpy(block))
        own = out.to(torch.float32).numpy()
        self._corpus_length.append(max(float(_norms(block).max()), float(_norms(own).max())))
        np.subtract(block, own, out=own)
        self._corpus_lost.append(float(_norms(own).max()))

    def look(self, rows: slice, tile: Any, start: int, left_out: Mask | None, out: Any) -> None:
        """First pass over a tile of the corpus for some queries.

        Args:
            rows: which queries.
            tile: (m, d) bfloat16 tensor.
            start: its first row's index.
            left_out: (m,) rows that nobody may find.
            out: room for (queries, m) scores in bfloat16.
        """
        import torch

        torch.mm(self._rounded[rows], tile.T, out=out)
        bits = out.view(torch.int16).numpy()
        if left_out is not None:
            bits[:, left_out] = _MINUS_INFINITY
        ceilings = None
        if self._ceilings is not None:
            limits = self._ceilings[rows, None]
            ceilings = np.nextafter((limits + self._bound(rows, limits)).astype(np.float32), np.float32(np.inf))
        self._best.offer_bf16(rows, bits, start, ceilings)

    def choose(self, rows: slice) -> None:
        """End the first pass for some queries: forget what cannot be among the k best."""
        self._best.merge(rows)
        keys = self._best.keys[rows]
        rounded, _ = unpack(keys)
        sure = rounded
        if self._ceilings is not None:
            allowed = rounded + self._bound(rows, rounded) <= self._ceilings[rows, None]
            sure = np.where(allowed, rounded, np.float32(-np.inf))
        k_th = np.partition(sure, sure.shape[1] - self._k, axis=1)[:, sure.shape[1] - self._k, None]
        keys[rounded < k_th - 2.02 * self._bound(rows, k_th)] = EMPTY

    def measure(self, rows: slice, block: Floats, offset: int) -> None:
        """Score in float32 what some queries may find in a block of the corpus."""
        _, indices = unpack(self._best.keys[rows])
        indices -= offset
        query, place = np.nonzero((indices >= 0) & (indices < len(block)))
        exact, queries = self._exact[rows], self._queries[rows]
        for start in range(0, len(query), _PAIRS):
            own, slot = query[start : start + _PAIRS], place[start : start + _PAIRS]
            # Products are summed row by row: equal vectors get equal scores, wherever they stand.
            exact[own, slot] = np.einsum("nd,nd->n", block[indices[own, slot]], queries[own])

    def finish(self, rows: slice) -> None:
        """The result for some queries, into `scores`, `rows` and `unsettled`."""
        rounded, indices = unpack(self._best.keys[rows])
        exact, floors = self._exact[rows], self._best.floors[rows, None]
        measured = indices != NO_ROW
        allowed = measured if self._ceilings is None else measured & (exact <= self._ceilings[rows, None])
        keys = np.where(allowed, pack(exact, indices), EMPTY)
        self.scores[rows], self.rows[rows] = unpack(np.sort(keys, axis=1)[:, : -self._k - 1 : -1])
        full = ~np.isneginf(floors)
        out_of_reach = floors + self._bound(rows, floors) < self.scores[rows, -1:]
        # A processor that does not keep to the bound would be found out here.
        rounded, exact = np.where(measured, rounded, 0), np.where(measured, exact, 0)
        kept_to = (np.abs(rounded - exact) <= self._bound(rows, rounded)).all(axis=1)
        self.unsettled[rows] = (full & ~out_of_reach)[:, 0] | ~kept_to

    def _bound(self, rows: slice, scores: Floats) -> Any:
        """How far rounded scores are from the scores at most, in the shape of `scores`, (queries, any)."""
        lost, length = self._lost[rows, None], self._length[rows, None]
        corpus_length = max(self._corpus_length)
        vectors = lost * corpus_length + length * max(self._corpus_lost)
        sums = 3.1 * self._queries.shape[1] * _UNIT_FLOAT32 * length * corpus_length
        error = (1.001 * (vectors + sums) + _TINY).astype(np.float32)
        sizes = np.where(np.isinf(scores), 0, np.abs(scores))  # no row there, or no limit
        return error + np.float32(1.01 * _UNIT_BF16) * (sizes + error)


def _norms(vectors: Any) -> Any:
    """(n,) in float64, rounded up by more than summing in float32 can lose."""
    squares = np.einsum("nd,nd->n", vectors, vectors).astype(np.float64)
    return (1 + vectors.shape[1] * _UNIT_FLOAT32) * np.sqrt(squares)
