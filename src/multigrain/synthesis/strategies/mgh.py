"""Multi-granularity hard negatives: the query, and then all four levels in one structured answer; or all in one.

Negatives at several levels of similarity, written by a language model: **fact** (arXiv 2509.00842). Four of them, one
easy, two medium, one hard: **notes**. The prompt, and that the document is the positive: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.synthesis.strategies.one_call import OneCallStrategy

__all__ = ["MghStrategy"]


@dataclass(frozen=True)
class MghStrategy(OneCallStrategy):
    """Asks once for everything, all four levels."""

    name = "mgh"
