"""A positive in other words: the model rewrites the document, or the query, and the negatives are mined.

Paraphrases as positives: arXiv 2507.22729 (**notes**). A paraphrase of the document keeps the model from matching
words instead of meaning; a paraphrase of the query makes a symmetric pair, for models that compare short texts. The
row stays the document's: the document itself never becomes its negative. Mix it with another strategy, so that the
documents themselves are positives as well. The prompts: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from multigrain.llm.protocol import LLMClient
from multigrain.records import SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import BuiltInStrategy, Passage, StrategySettings, written_row


@dataclass(frozen=True)
class ParaphraseStrategy(BuiltInStrategy):
    """Asks for the query, then for a paraphrase.

    Attributes:
        of: what is paraphrased.
    """

    name = "paraphrase"

    of: Literal["document", "query"] = "document"

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return replace(super().from_settings(settings), of=settings.synthesis.paraphrase)

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in two calls, one where the query is given; see `Strategy.write`."""
        query = await self.writer.query(client, unit)
        answer = await self.writer.fill(
            client, unit, "paraphrase", Passage, shows={"passage": "paraphrase"}, query=query, of=self.of
        )
        return written_row(self.name, unit, query=query, positive=answer.passage)
