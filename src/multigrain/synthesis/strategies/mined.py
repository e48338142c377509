"""Only the query is written, and the negatives are mined: the strategies `mined` and `mined-bands`.

`mined` is the usual hard-negative mining: the nearest ranks, held below the positive's similarity by a margin
(`audit.false_negative_margin`) so that few of them answer the query after all. All four are hard: the levels differ
little. What a model learns from them is the baseline that written negatives have to beat (arXiv 2504.21015).

`mined-bands` mines each level from its own band of the corpus' ranking, and so has levels without any writing:
documents of one band are about as similar to the query as each other, and the bands (`audit.bands`) fall from the
nearest ranks to distant ones. Graded rank bands: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from multigrain.llm.protocol import LLMClient
from multigrain.records import Mining, SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import PassageStrategy, written_row


@dataclass(frozen=True)
class MinedStrategy(PassageStrategy):
    """Asks for the query, or for nothing where it is given.

    Attributes:
        mining: where the negatives come from.
    """

    name = "mined"
    mining: ClassVar[Mining] = "nearest"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call at most; see `Strategy.write`."""
        query, positive = await self.writer.opening(client, unit, write_positive=self.write_positive)
        return written_row(self.name, unit, query=query, positive=positive, mining=self.mining)


@dataclass(frozen=True)
class MinedBandsStrategy(MinedStrategy):
    """Asks for the query, or for nothing where it is given; each level is mined from its own band."""

    name = "mined-bands"
    mining = "bands"
