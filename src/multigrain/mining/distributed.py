"""Searching a store on the workers of an engine; results are those of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from multigrain.encoders.distributed import computed
from multigrain.encoders.protocol import Floats
from multigrain.engine.protocol import Engine
from multigrain.mining.best import Indices, Mask
from multigrain.mining.search import top_k
from multigrain.mining.vectors import VectorStore

_QUERIES: Final = 2_048


@dataclass(frozen=True)
class _SearchUnit:
    number: int
    queries: Floats
    k: int
    ceilings: Floats | None


@dataclass(frozen=True)
class _Search:
    place: str
    left_out: Mask

    def __call__(self, unit: _SearchUnit) -> tuple[Floats, Indices]:
        corpus = VectorStore(self.place)
        return top_k(unit.queries, corpus, unit.k, ceilings=unit.ceilings, left_out=self.left_out)


@dataclass(frozen=True)
class DistributedSearch:
    """Exact search over a store that every worker can read, a batch of queries a unit. Implements `mine.Search`.

    Attributes:
        place: the store.
        engine: where.
    """

    place: str
    engine: Engine

    def __call__(self, queries: Floats, k: int, ceilings: Floats | None, left_out: Mask) -> tuple[Floats, Indices]:
        """Find rows as `top_k` does."""
        units = [
            _SearchUnit(
                start,
                queries[start : start + _QUERIES],
                k,
                None if ceilings is None else ceilings[start : start + _QUERIES],
            )
            for start in range(0, len(queries), _QUERIES)
        ]
        search = _Search(self.place, left_out)
        outcomes = computed(self.engine, search, units, lambda _: f"{self.place}: could not be searched")
        parts = {unit.number: part for unit, part in outcomes}
        scores, rows = zip(*(parts[number] for number in sorted(parts)), strict=True)
        return np.concatenate(scores), np.concatenate(rows)
