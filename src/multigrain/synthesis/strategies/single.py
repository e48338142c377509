"""One hard negative a row, in one call: what E5-mistral's synthesis does (arXiv 2401.00368).

The negative is asked for as level 4; the audit mines the other levels. To train as that work did, on the one hard
negative alone, set `training.schedule: fixed-4`. One hard negative an example: **notes**. The prompt: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import Level, SynthesizedRow
from multigrain.synthesis.strategies.mgh import write_graded
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, StrategySettings, Writer

__all__ = ["SingleStrategy"]


@dataclass(frozen=True)
class SingleStrategy:
    """Asks once, for the hardest level only.

    Attributes:
        writer: asks the model.
        write_positive: whether the positive is written too.
    """

    writer: Writer = DEFAULT_WRITER
    write_positive: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> SingleStrategy:
        """The strategy that a config describes."""
        return cls(settings.writer, settings.synthesis.positive == "written")

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        return "single"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call; see `Strategy.write`."""
        levels = (Level.HARD,) if unit.with_negatives else ()
        return await write_graded(self.name, self.writer, unit, client, levels, write_positive=self.write_positive)
