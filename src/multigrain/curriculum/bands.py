"""Bands of a list of passages by their scores: what stands for a level where a teacher has scored a row."""

from __future__ import annotations

from typing import Final

from multigrain.records import LEVELS, Level

_BANDS: Final = len(LEVELS)


def score_band(level: Level, passages: int) -> range:
    """The places of one level among passages in rising order of their scores: level 1 has the lowest.

    The four bands are as equal as whole passages allow; none is empty, and together they hold every passage. Fewer
    passages than bands stand in several.

    Args:
        level: 1 to 4.
        passages: how many there are, at least 1.
    """
    start = (level - 1) * passages // _BANDS
    stop = -(-level * passages // _BANDS)
    return range(start, max(stop, start + 1))


def band_length(passages: int) -> int:
    """How many passages the longest band holds."""
    return max(len(score_band(level, passages)) for level in LEVELS)


def evenly(count: int, available: int) -> list[int]:
    """So many of the places 0 … available - 1, evenly spread, the last among them; repeated where there are fewer.

    Args:
        count: how many, at least 1.
        available: of how many, at least 1.
    """
    if available >= count:
        return [available - 1 - (count - 1 - place) * available // count for place in range(count)]
    return [available - 1 - (count - 1 - place) % available for place in range(count)]
