"""Query, positive and the negatives of some levels in one structured answer: what `mgh`, `hybrid` and `single` do."""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.strategies.base import PassageStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.shapes import graded_shape
from multigrain.synthesis.strategies.writer import written_row

__all__ = ["OneCallStrategy"]


@dataclass(frozen=True)
class OneCallStrategy(PassageStrategy):
    """Asks once for everything.

    Attributes:
        levels: which are written.
    """

    levels: tuple[Level, ...] = LEVELS

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call; see `Strategy.write`. A given query keeps its given positive."""
        write_query = unit.query is None
        write_positive = self.write_positive and write_query
        if not unit.with_negatives:
            query, positive = await self.writer.opening(client, unit, write_positive=write_positive)
            return written_row(self.name, unit, query=query, positive=positive)
        shape = graded_shape(self.levels, query=write_query, positive=write_positive)
        answer = await self.writer.fill(
            client,
            unit,
            "mgh",
            shape,
            shows={field: field for field in shape.model_fields},
            write_positive=write_positive,
            levels=[int(level) for level in self.levels],
        )
        written = answer.model_dump()
        return written_row(
            self.name,
            unit,
            query=written["query"] if write_query else unit.query or "",
            positive=written.get("positive"),
            negatives={level: written[f"level_{int(level)}"] for level in self.levels},
        )
