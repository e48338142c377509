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
class _Search:
    place: str
    k: int
    left_out: Mask

    def __call__(self, unit: tuple[int, Floats, Floats | None]) -> tuple[Floats, Indices]:
        _, queries, ceilings = unit
        return top_k(queries, VectorStore(self.place), self.k, ceilings=ceilings, left_out=self.left_out)


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
        parts = [slice(start, start + _QUERIES) for start in range(0, len(queries), _QUERIES)]
        units = [(part.start, queries[part], None if ceilings is None else ceilings[part]) for part in parts]
        search = _Search(self.place, k, left_out)
        outcomes = computed(self.engine, search, units, lambda _: f"{self.place}: could not be searched")
        results = {unit[0]: result for unit, result in outcomes}
        scores, rows = zip(*(results[part.start] for part in parts), strict=True)
        return np.concatenate(scores), np.concatenate(rows)
