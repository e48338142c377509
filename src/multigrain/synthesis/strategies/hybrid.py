"""Some levels written, the others mined: the model writes what the corpus does not hold.

A corpus has easy negatives in plenty, and rarely a hard one for every query, so by default levels 4 and 3 are written
and levels 2 and 1 come from the corpus' own bands. Mixing both sources is what keeps a model from learning to tell
written text from corpus text (a source shortcut, arXiv 2606.01304). The split by level: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from multigrain.records import Level
from multigrain.synthesis.strategies.one_call import OneCallStrategy
from multigrain.synthesis.strategies.writer import StrategySettings

__all__ = ["HybridStrategy"]


@dataclass(frozen=True)
class HybridStrategy(OneCallStrategy):
    """Asks once, for some levels only."""

    name = "hybrid"

    levels: tuple[Level, ...] = (Level.HARD, Level.MEDIUM_HIGH)

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        levels = tuple(sorted(map(Level, settings.synthesis.written_levels), reverse=True))
        return replace(super().from_settings(settings), levels=levels)
