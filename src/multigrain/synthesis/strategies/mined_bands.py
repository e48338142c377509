"""Only the query is written; each negative is mined from its level's own band of the corpus' ranking.

Levels without any writing: documents of one band are about as similar to the query as each other, and the bands
(`audit.bands`) fall from the nearest ranks to distant ones. Graded rank bands: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.synthesis.strategies.mined import MinedStrategy

__all__ = ["MinedBandsStrategy"]


@dataclass(frozen=True)
class MinedBandsStrategy(MinedStrategy):
    """Asks for the query, or for nothing where it is given."""

    name = "mined-bands"
    mining = "bands"
