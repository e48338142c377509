"""One hard negative a row, in one call: what E5-mistral's synthesis does (arXiv 2401.00368).

The negative is asked for as level 4; the audit mines the other levels. To train as that work did, on the one hard
negative alone, set `training.schedule: fixed-4`. One hard negative an example: **notes**. The prompt: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.records import Level
from multigrain.synthesis.strategies.one_call import OneCallStrategy

__all__ = ["SingleStrategy"]


@dataclass(frozen=True)
class SingleStrategy(OneCallStrategy):
    """Asks once, for the hardest level only."""

    name = "single"

    levels: tuple[Level, ...] = (Level.HARD,)
