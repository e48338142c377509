"""The negatives of some levels in one structured answer: the strategies `mgh`, `hybrid` and `single`.

`mgh` has all four levels written: negatives at several levels of similarity, written by a language model, are a
**fact** (arXiv 2509.00842); four of them, one easy, two medium, one hard: **notes**. The prompt, and that the document
is the positive: **ours**.

`single` has one hard negative written, which is what E5-mistral's synthesis does (arXiv 2401.00368: **notes**); it is
asked for as level 4, and the audit mines the other levels. To train as that work did, on the one hard negative alone,
set `training.schedule: fixed-4`.

`hybrid` has some levels written and the others mined. A corpus has easy negatives in plenty, and rarely a hard one for
every query, so by default levels 4 and 3 are written and levels 2 and 1 come from the corpus' own bands. Mixing both
sources is what keeps a model from learning to tell written text from corpus text (a source shortcut, arXiv
2606.01304). The split by level: **ours**.

The query is asked for in a call before it, in free text (`synthesis.query_first`: **ours**, measured in
docs/results.md), or is a field of the same answer, as the paper has it. What a small model writes as the first of six
fields is often no more than the document's subject.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

from pydantic import BaseModel, create_model

from multigrain.llm.protocol import LLMClient
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.plain_text import Text
from multigrain.synthesis.strategies.protocol import WritingUnit, row_id
from multigrain.synthesis.strategies.writer import PassageStrategy, StrategySettings, written_row


@dataclass(frozen=True)
class OneCallStrategy(PassageStrategy):
    """Asks once for everything, or for the query first.

    Attributes:
        levels: which are written.
        query_first: whether the query, and a written positive, come from a call of their own.
    """

    levels: tuple[Level, ...] = LEVELS
    query_first: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return replace(super().from_settings(settings), query_first=settings.synthesis.query_first)

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call, or in two; see `Strategy.write`. A given query keeps its given positive."""
        write_query = unit.query is None
        write_positive = self.write_positive and write_query
        if not unit.with_negatives or (self.query_first and write_query):
            query, positive = await self.writer.opening(client, unit, write_positive=write_positive)
            if not unit.with_negatives:
                return written_row(self.name, unit, query=query, positive=positive)
            row = await self.write(replace(unit, query=query), client)
            return replace(row, id=row_id(self.name, unit), positive=positive)
        shape = _graded_shape(self.levels, query=write_query, positive=write_positive)
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


@dataclass(frozen=True)
class MghStrategy(OneCallStrategy):
    """Asks once for everything, all four levels."""

    name = "mgh"


@dataclass(frozen=True)
class SingleStrategy(OneCallStrategy):
    """Asks once, for the hardest level only."""

    name = "single"

    levels: tuple[Level, ...] = (Level.HARD,)


@dataclass(frozen=True)
class HybridStrategy(OneCallStrategy):
    """Asks once, for some levels only."""

    name = "hybrid"

    levels: tuple[Level, ...] = (Level.HARD, Level.MEDIUM_HIGH)

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        levels = tuple(sorted(map(Level, settings.synthesis.written_levels), reverse=True))
        return replace(super().from_settings(settings), levels=levels)


@cache
def _graded_shape(levels: tuple[Level, ...], *, query: bool, positive: bool) -> type[BaseModel]:
    """An answer with a negative a level, the hardest first. Constrained decoders write fields in this order.

    Args:
        levels: which levels are written.
        query: whether the query is written too.
        positive: whether the positive is.
    """
    names = ["query"] * query + ["positive"] * positive
    names += [f"level_{int(level)}" for level in sorted(levels, reverse=True)]
    fields: dict[str, Any] = dict.fromkeys(names, (Text, ...))
    return create_model("Graded", **fields)
