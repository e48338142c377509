"""A language model that judges pairs of texts: asked once about each pair, within a limit, and counted."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pydantic import BeforeValidator

from multigrain.engine.protocol import Engine
from multigrain.llm.protocol import LLMClient
from multigrain.synthesis.prompts import BUILT_IN, Prompts

Judgment = TypeVar("Judgment")


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number is needed")
    return value


NO_TRUTH: Final = BeforeValidator(_no_truth)
"""Keeps true from being taken for a score of 1."""


def pair_key(query: str, passage: str) -> bytes:
    """A key of a pair: 16 bytes, however long the texts are."""
    digest = hashlib.blake2b(f"{len(query)}:".encode(), digest_size=16)
    digest.update((query + passage).encode("utf-8", "surrogatepass"))
    return digest.digest()


@dataclass
class JudgeCounts:
    """Counts of judged pairs.

    Attributes:
        judged: pairs with a judgment.
        failed: pairs for which no judgment came back.
        over_limit: pairs that were not judged, for the limit on their number or on spending.
    """

    judged: int = 0
    failed: int = 0
    over_limit: int = 0


@dataclass
class PairJudge(ABC, Generic[Judgment]):
    """Asks a language model about pairs. One that gets no judgment, for whatever reason, is counted and has None.

    Args:
        client: the model; a journaled one is asked once for each pair, however often its user runs.
        engine: where the asking runs.
        seed: of the sampler.
        prompts: the templates.
        room: most tokens for a judgment and for what a model thinks before it.
    """

    client: LLMClient
    engine: Engine
    seed: int
    prompts: Prompts = BUILT_IN
    room: int = 0
    counts: JudgeCounts = field(default_factory=JudgeCounts, init=False)
    _by_pair: dict[bytes, Judgment | None] = field(default_factory=dict, init=False)

    @property
    @abstractmethod
    def most_pairs(self) -> int | None:
        """Pairs that may be judged; None for no limit."""

    @abstractmethod
    async def judge(self, pair: tuple[str, str]) -> Judgment:
        """Ask about one pair."""

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Ask about those pairs that were not asked about before."""
        new = [pair for pair in dict.fromkeys(pairs) if pair_key(*pair) not in self._by_pair]
        if self.most_pairs is not None:
            left = max(0, self.most_pairs - self.counts.judged - self.counts.failed)
            self.counts.over_limit += len(new[left:])
            self._by_pair |= {pair_key(*pair): None for pair in new[left:]}
            new = new[:left]
        for outcome in self.engine.map(self.judge, new):
            self._by_pair[pair_key(*outcome.unit)] = outcome.value
            if outcome.value is not None:
                self.counts.judged += 1
            elif outcome.failure is not None and outcome.failure.kind == "over_limit":
                self.counts.over_limit += 1
            else:
                self.counts.failed += 1

    def judgment(self, query: str, passage: str) -> Judgment | None:
        """What came back about a pair; None where nothing did, or it was not asked about."""
        return self._by_pair.get(pair_key(query, passage))

    def forget(self) -> None:
        """Let go of what came back; the journal has it."""
        self._by_pair.clear()
