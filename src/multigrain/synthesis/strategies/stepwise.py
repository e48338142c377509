"""One field a call, in free text: what a model of a hundred million parameters can still do. **Ours**."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.plain_text import whole_sentences
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import BuiltInStrategy, written_row

_NEGATIVE_TOKENS: Final = 72


@dataclass(frozen=True)
class StepwiseStrategy(BuiltInStrategy):
    """Asks for the query, then, where negatives are wanted, for each of them by itself."""

    name = "stepwise"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in five calls, in one where no negatives are wanted; see `Strategy.write`."""
        query = await self.writer.query(client, unit)
        negatives: dict[Level, str] = {}
        if unit.with_negatives:
            texts = await asyncio.gather(*(self._negative(client, unit, level) for level in LEVELS))
            negatives = {level: text for level, text in zip(LEVELS, texts, strict=True) if text}
        return written_row(self.name, unit, query=query, negatives=negatives)

    async def _negative(self, client: LLMClient, unit: WritingUnit, level: Level) -> str:
        answer = await self.writer.text(
            client,
            unit,
            "negative",
            shows=f"level_{int(level)}",
            max_tokens=_NEGATIVE_TOKENS,
            stop=("\n\n",),
            level=int(level),
        )
        return whole_sentences(answer)
