"""Several strategies in one run: each row is written by one of them, drawn by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient
from multigrain.records import SynthesizedRow
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit, seeded_place


@dataclass(frozen=True)
class MixedStrategy:
    """Hands each unit to one of its members. Which one depends on the seed and the unit alone.

    So a run that is resumed, or given more documents, writes the same rows the same way; and what a strategy asks is
    kept in the journal under its own name, so rows keep their completions when a mix is changed around them.

    Attributes:
        members: the strategies, each with its share; shares sum to 1.
        seed: of the draw.
    """

    members: tuple[tuple[Strategy, float], ...]
    seed: int = 0

    @classmethod
    def weighted(cls, strategies: Mapping[str, Strategy], weights: Mapping[str, float], *, seed: int) -> MixedStrategy:
        """A mix by relative weights, in whichever order they are named."""
        total = sum(weights.values())
        named = sorted((name, weight / total) for name, weight in weights.items() if weight > 0)
        return cls(tuple((strategies[name], share) for name, share in named), seed)

    @property
    def name(self) -> str:
        """The members and their shares, e.g. `mgh 50%, mined-bands 50%`."""
        return ", ".join(f"{member.name} {share:.0%}" for member, share in self.members)

    def member(self, unit: WritingUnit) -> Strategy:
        """The strategy that writes a unit."""
        place = seeded_place(self.seed, "strategy", f"{unit.index}:{unit.document.id}:{unit.query or ''}")
        for member, share in self.members:
            if place < share:
                return member
            place -= share
        return self.members[-1][0]  # rounding left the last one a hair short

    def only(self, name: str) -> MixedStrategy:
        """This mix with one of its members alone; as it is where no member has the name."""
        named = [member for member, _ in self.members if member.name == name]
        return replace(self, members=((named[0], 1.0),)) if named else self

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row; see `Strategy.write`."""
        member = self.member(unit)
        return await member.write(unit, _AskedBy(client, member.name))


@dataclass(frozen=True)
class _AskedBy:
    """Says who asks, so that the journal keeps answers apart by strategy. Implements `LLMClient`."""

    inner: LLMClient
    name: str

    @property
    def identity(self) -> str:
        return self.inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        return await self.inner.complete(replace(request, asked_by=self.name))

    async def aclose(self) -> None:
        await self.inner.aclose()
