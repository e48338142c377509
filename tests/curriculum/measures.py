"""What tests read off planned batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from multigrain.records import LEVELS, Level

__all__ = ["level_of", "padded_share"]


def level_of(index: int, rows: int) -> Level:
    """The level of a triple, from its place in the long form."""
    return LEVELS[index // rows]


def padded_share(batches: Sequence[Sequence[int]], lengths: Callable[[int], int]) -> float:
    """The share of positions that are padding where each batch is as wide as its longest row."""
    filled = sum(lengths(row) for batch in batches for row in batch)
    padded = sum(len(batch) * max(lengths(row) for row in batch) for batch in batches if batch)
    return 1 - filled / padded if padded else 0.0
