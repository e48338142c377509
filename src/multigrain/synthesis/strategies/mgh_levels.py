"""Multi-granularity hard negatives, a level a call: easy ones first, each shown the positive and the easier levels.

In one answer a model tends to write four texts of one likeness; asked for one level at a time, it sees what it has
to come nearer than. Four levels: **notes** (arXiv 2509.00842). One call a level: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import Passage, PassageStrategy, written_row


@dataclass(frozen=True)
class MghLevelsStrategy(PassageStrategy):
    """Asks for the query, then for level 1, 2, 3 and 4, one after another."""

    name = "mgh-levels"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in five calls, four where the query is given; see `Strategy.write`."""
        query, positive = await self.writer.opening(client, unit, write_positive=self.write_positive)
        negatives: dict[Level, str] = {}
        for level in LEVELS if unit.with_negatives else ():
            answer = await self.writer.fill(
                client,
                unit,
                "level",
                Passage,
                shows={"passage": f"level_{int(level)}"},
                query=query,
                positive=positive[: self.writer.document_characters],
                level=int(level),
                easier=list(negatives.values()),
            )
            negatives[level] = answer.passage
        return written_row(self.name, unit, query=query, positive=positive, negatives=negatives)
