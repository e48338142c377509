"""Only the query is written; each negative is mined from its level's own band of the corpus' ranking.

Levels without any writing: documents of one band are about as similar to the query as each other, and the bands
(`audit.bands`) fall from the nearest ranks to distant ones. Graded rank bands: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, StrategySettings, Writer, written_row

__all__ = ["MinedBandsStrategy"]


@dataclass(frozen=True)
class MinedBandsStrategy:
    """Asks for the query, or for nothing where it is given.

    Attributes:
        writer: asks the model.
        write_positive: whether the positive is written too.
    """

    writer: Writer = DEFAULT_WRITER
    write_positive: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> MinedBandsStrategy:
        """The strategy that a config describes."""
        return cls(settings.writer, settings.synthesis.positive == "written")

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        return "mined-bands"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call at most; see `Strategy.write`."""
        query, positive = await self.writer.opening(client, unit, write_positive=self.write_positive)
        return written_row(self.name, unit, query=query, positive=positive)
