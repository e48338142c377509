"""A chain of rewrites that drift away from the positive, each made from the one before: level 4 down to level 1.

Sentences that are rewritten again and again, each a little farther from the first, come with their ranking
(arXiv 2502.13656, there for sentences and list-wise training: **notes**). Here the chain starts at the positive and
its four links are the levels: **ours**. A chain only drifts, so its last link is often still near the subject; the
audit measures, and mines what stays empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import Passage, PassageStrategy, written_row


@dataclass(frozen=True)
class RankingChainStrategy(PassageStrategy):
    """Asks for the query, then for four rewrites, one after another."""

    name = "ranking-chain"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in five calls, four where the query is given; see `Strategy.write`."""
        query, positive = await self.writer.opening(client, unit, write_positive=self.write_positive)
        negatives: dict[Level, str] = {}
        link = positive[: self.writer.document_characters]
        for level in reversed(LEVELS) if unit.with_negatives else ():
            answer = await self.writer.fill(
                client,
                unit,
                "drift",
                Passage,
                shows={"passage": f"level_{int(level)}"},
                query=query,
                passage=link,
                step=len(LEVELS) + 1 - int(level),
            )
            link = negatives[level] = answer.passage
        return written_row(self.name, unit, query=query, positive=positive, negatives=negatives)
