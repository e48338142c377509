"""Some levels written, the others mined: the model writes what the corpus does not hold.

A corpus has easy negatives in plenty, and rarely a hard one for every query, so by default levels 4 and 3 are written
and levels 2 and 1 come from the corpus' own bands. Mixing both sources is what keeps a model from learning to tell
written text from corpus text (a source shortcut, arXiv 2606.01304). The split by level: **ours**.
"""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import Level, SynthesizedRow
from multigrain.synthesis.strategies.mgh import write_graded
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, StrategySettings, Writer

__all__ = ["HybridStrategy"]


@dataclass(frozen=True)
class HybridStrategy:
    """Asks once, for some levels only.

    Attributes:
        writer: asks the model.
        levels: which are written.
        write_positive: whether the positive is written too.
    """

    writer: Writer = DEFAULT_WRITER
    levels: tuple[Level, ...] = (Level.HARD, Level.MEDIUM_HIGH)
    write_positive: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> HybridStrategy:
        """The strategy that a config describes."""
        levels = tuple(sorted(map(Level, settings.synthesis.written_levels), reverse=True))
        return cls(settings.writer, levels, settings.synthesis.positive == "written")

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        return "hybrid"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call; see `Strategy.write`."""
        levels = self.levels if unit.with_negatives else ()
        return await write_graded(self.name, self.writer, unit, client, levels, write_positive=self.write_positive)
