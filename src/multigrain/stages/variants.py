"""The trainings of one candidate that validation queries choose from: learning rates, and ranks of a query adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from multigrain.config import TrainingConfig


@dataclass(frozen=True)
class Variant:
    """A candidate's settings with one learning rate and one rank, and what tells it from others of its candidate."""

    settings: TrainingConfig
    rate: float
    rank: int
    words: str
    folder: str

    @property
    def order(self) -> tuple[float, int]:
        """The one that moves the base less comes first."""
        return self.rate, self.rank


def variants_of(settings: TrainingConfig, *, choose: bool) -> list[Variant]:
    """The trainings that validation queries choose from; one where they choose none."""
    rates, adapter = settings.rates(choose=choose), settings.query_adapter
    ranks = (0,) if adapter is None else adapter.ranks(choose=choose)
    found = []
    for rank, rate in product(ranks, rates):
        update: dict[str, Any] = {"learning_rate": rate}
        if adapter is not None and rank:
            update["query_adapter"] = adapter.model_copy(update={"rank": rank})
        words = f" at {rate:g}" if len(rates) > 1 else ""
        folder = f"-lr{rate:g}" if len(rates) > 1 else ""
        if len(ranks) > 1:
            words, folder = f" of rank {rank}{words}", f"-rank{rank}{folder}"
        found.append(Variant(settings.model_copy(update=update), rate, rank, words, folder))
    return found


def best_by(scores: Mapping[tuple[float, int], float], part: int) -> dict[str, float]:
    """The best score for each learning rate (part 0) or rank (part 1)."""
    best: dict[str, float] = {}
    for key, score in scores.items():
        name = f"{key[part]:g}"
        best[name] = max(score, best.get(name, score))
    return best
