"""Multi-granularity hard negatives in one call: the query and all four levels in one structured answer.

Negatives at several levels of similarity, written by a language model: **fact** (arXiv 2509.00842). Four of them, one
easy, two medium, one hard: **notes**. The prompt, and that the document is the positive: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.shapes import graded_shape
from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, StrategySettings, Writer, written_row

__all__ = ["MghStrategy", "write_graded"]


@dataclass(frozen=True)
class MghStrategy:
    """Asks once for everything.

    Attributes:
        writer: asks the model.
        write_positive: whether the positive is written too, instead of being the document.
    """

    writer: Writer = DEFAULT_WRITER
    write_positive: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> MghStrategy:
        """The strategy that a config describes."""
        return cls(settings.writer, settings.synthesis.positive == "written")

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        return "mgh"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call; see `Strategy.write`."""
        levels = LEVELS if unit.with_negatives else ()
        return await write_graded(self.name, self.writer, unit, client, levels, write_positive=self.write_positive)


async def write_graded(
    name: str,
    writer: Writer,
    unit: WritingUnit,
    client: LLMClient,
    levels: tuple[Level, ...],
    *,
    write_positive: bool,
) -> SynthesizedRow:
    """Query, positive and the negatives of some levels in one call; with no level and no positive, the query alone.

    Args:
        name: the strategy's.
        writer: asks the model.
        unit: the row.
        client: the model.
        levels: which are written.
        write_positive: whether the positive is written too. A given query keeps its given positive.
    """
    write_query = unit.query is None
    write_positive = write_positive and write_query
    if not levels:
        query, positive = await writer.opening(client, unit, write_positive=write_positive)
        return written_row(name, unit, query=query, positive=positive)
    shape = graded_shape(levels, query=write_query, positive=write_positive)
    answer = await writer.fill(
        client,
        unit,
        "mgh",
        shape,
        shows={field: field for field in shape.model_fields},
        write_positive=write_positive,
        levels=[int(level) for level in levels],
    )
    written = answer.model_dump()
    return written_row(
        name,
        unit,
        query=written["query"] if write_query else unit.query or "",
        positive=written.get("positive"),
        negatives={level: written[f"level_{int(level)}"] for level in levels},
    )
