"""Several candidates a level; the audit measures them and keeps those that fall where their level belongs.

What a small model writes for a level is a draw that varies widely; of several draws, one lands near the aim more
often than one does. Every completion is in the journal before anything is measured, so other bands or another
reference model choose anew from what was paid for. **Ours**.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Self

from annotated_types import Len
from pydantic import BaseModel, create_model

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.plain_text import Text
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import PassageStrategy, StrategySettings, written_row


@dataclass(frozen=True)
class OverGenerateStrategy(PassageStrategy):
    """Asks for the query, then for all levels at once, a call each.

    Attributes:
        count: candidates a level.
    """

    name = "over-generate"

    count: int = 3

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return replace(super().from_settings(settings), count=settings.synthesis.candidates)

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in five calls, four where the query is given; see `Strategy.write`."""
        query, positive = await self.writer.opening(client, unit, write_positive=self.write_positive)
        if not unit.with_negatives:
            return written_row(self.name, unit, query=query, positive=positive)

        async def candidates(level: Level) -> tuple[str, ...]:
            answer = await self.writer.fill(
                client,
                unit,
                "candidates",
                _passages_shape(self.count),
                shows={"passages": (f"level_{int(level)}",)},
                query=query,
                positive=positive[: self.writer.document_characters],
                level=int(level),
                count=self.count,
            )
            # A model that repeats itself has written one candidate.
            return tuple(dict.fromkeys(answer.model_dump()["passages"]))

        pool = dict(zip(LEVELS, await asyncio.gather(*map(candidates, LEVELS)), strict=True))
        return written_row(
            self.name,
            unit,
            query=query,
            positive=positive,
            negatives={level: texts[0] for level, texts in pool.items()},
            candidates={level: texts[1:] for level, texts in pool.items() if texts[1:]},
        )


@cache
def _passages_shape(count: int) -> type[BaseModel]:
    """An answer with so many passages."""
    fields: dict[str, Any] = {"passages": (Annotated[list[Text], Len(count, count)], ...)}
    return create_model("Passages", **fields)
