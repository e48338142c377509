"""Choosing one negative a level by what was measured, whatever the writer was asked for.

From the hardest level down, each pick must lie below a ceiling: first the positive's similarity less a margin, then
the last pick less a gap. So every kept row is in order under the reference model, by construction.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from multigrain.config import Band
from multigrain.mining.bands import Ranking
from multigrain.records import LEVELS, Level

__all__ = ["MinedPick", "WrittenPick", "pick_negatives"]


@dataclass(frozen=True)
class WrittenPick:
    """A written negative that passed the text checks.

    Attributes:
        text: the passage.
        asked: the level it was written for.
        similarity: measured cosine to the query.
    """

    text: str
    asked: Level
    similarity: float


@dataclass(frozen=True)
class MinedPick:
    """A corpus document that serves as a negative.

    Attributes:
        index: its corpus row.
        similarity: measured cosine to the query.
    """

    index: int
    similarity: float


def pick_negatives(
    written: Sequence[WrittenPick],
    ranking: Ranking,
    bands: Sequence[Band],
    *,
    sources: Literal["hybrid", "mined", "written"],
    ceiling: float,
    gap: float,
    seed: str,
) -> dict[Level, WrittenPick | MinedPick]:
    """One negative a level, in strictly falling similarity; levels that nothing fits are left out.

    A written negative goes to the level in whose band of the corpus its measured similarity falls; where several
    fit, the one that was asked for that level goes first. With `sources="written"` there are no bands to fall in:
    the texts are levelled by their order alone.

    Args:
        written: candidates that passed the text checks.
        ranking: the corpus as the query ranks it.
        bands: for level 1 to 4 the ranks (from, to), scaled to the corpus.
        sources: which kinds may be used.
        ceiling: highest similarity of the hardest negative.
        gap: least difference between neighbouring levels.
        seed: decides which member of a band is drawn.
    """
    if sources == "written":
        return _order_written(written, ceiling, gap)
    draw = random.Random(seed)
    picks: dict[Level, WrittenPick | MinedPick] = {}
    used: set[str] = set()
    for level, (low, high) in zip(reversed(LEVELS), reversed(bands), strict=True):
        pick: WrittenPick | MinedPick | None = None
        if sources == "hybrid":
            floor = _similarity_at(ranking, high - 1)
            fitting = [each for each in written if floor <= each.similarity <= ceiling and each.text not in used]
            pick = max(fitting, key=lambda each: (each.asked == level, each.similarity), default=None)
        pick = pick or _mine(ranking, low, high, ceiling, draw)
        if pick is None:
            continue
        if isinstance(pick, WrittenPick):
            used.add(pick.text)
        picks[level] = pick
        ceiling = pick.similarity - gap
    return picks


def _order_written(written: Sequence[WrittenPick], ceiling: float, gap: float) -> dict[Level, WrittenPick | MinedPick]:
    picks: dict[Level, WrittenPick | MinedPick] = {}
    remaining = list(reversed(LEVELS))
    for each in sorted(written, key=lambda candidate: -candidate.similarity):
        if remaining and each.similarity <= ceiling:
            picks[remaining.pop(0)] = each
            ceiling = each.similarity - gap
    return picks


def _mine(ranking: Ranking, low: int, high: int, ceiling: float, draw: random.Random) -> MinedPick | None:
    """A random member of the band that lies below the ceiling; else the first document below both."""
    # The similarities fall, so all ranks from the first one at or below the ceiling qualify.
    first = int(np.searchsorted(-ranking.similarities, -ceiling, side="left"))
    start, end = max(low, first), min(high, len(ranking.indices))
    rank = draw.randrange(start, end) if start < end else start
    if rank >= len(ranking.indices):
        return None
    return MinedPick(int(ranking.indices[rank]), float(ranking.similarities[rank]))


def _similarity_at(ranking: Ranking, rank: int) -> float:
    return float(ranking.similarities[min(rank, len(ranking.similarities) - 1)])
