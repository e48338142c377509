"""What a synthesis would ask and cost, found out by running it against a stand-in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from multigrain.config import PriceConfig
from multigrain.engine.protocol import Engine
from multigrain.llm.prices import about_prompt_tokens, cost_of
from multigrain.llm.protocol import CompletionFailure, CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import request_key
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit

__all__ = ["Estimate", "StrategyShare", "estimate_synthesis"]

_SAMPLED_ROWS: Final = 200
_FREE_TEXT_TOKENS: Final = 30
_FIELD_TOKENS: Final = 70
"""Assumed length of an answer, and of one field of a structured one, where the journal has no answers to go by."""


@dataclass(frozen=True, slots=True)
class StrategyShare:
    """One strategy's part of an estimate.

    Attributes:
        rows: rows that it writes.
        requests: completions that they need, those in the journal among them.
        prompt_tokens: tokens to read for those that are still to be asked, about.
        completion_tokens: tokens to write, about.
    """

    rows: int
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be asked.

    Attributes:
        rows: rows to write.
        requests: completions they need, corrections not counted.
        in_journal: the part of `requests` that is answered already and costs nothing.
        prompt_tokens: tokens to read for the rest, about.
        completion_tokens: tokens to write, about.
        completion_tokens_at_most: tokens to write if every answer takes its whole budget.
        cost: US dollars, about; None where the price is unknown.
        cost_at_most: with every answer at its whole budget.
        strategies: what each strategy of a mix has in it, by name.
        prompts: the first requests' messages, as they would be sent.
    """

    rows: int
    requests: int
    in_journal: int
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_at_most: int
    cost: float | None
    cost_at_most: float | None
    strategies: dict[str, StrategyShare]
    prompts: tuple[tuple[Message, ...], ...]


def estimate_synthesis(
    units: Sequence[WritingUnit],
    strategy: Strategy,
    engine: Engine,
    *,
    identity: str,
    price: PriceConfig | None,
    journal: Journal | None = None,
    prompts: int = 3,
    before: Sequence[CompletionRequest] = (),
) -> Estimate:
    """Count requests and tokens on evenly spread rows and scale up. Asks no model.

    Args:
        units: the rows.
        strategy: how they are written.
        engine: where the strategy runs.
        identity: of the client that would be asked.
        price: of the model.
        journal: what is known already; its answers also tell how long answers are.
        prompts: how many requests to show.
        before: what is asked before any row, and says by whom.
    """
    step = max(1, len(units) // _SAMPLED_ROWS)
    sample = units[::step][:_SAMPLED_ROWS]
    stand_in = ScriptedLLM()
    rows: Counter[str] = Counter()
    for outcome in engine.map(lambda unit: _asked_for(unit, strategy, stand_in), sample):
        rows[outcome.value or strategy.name] += 1
    asked = stand_in.requests
    scale = len(units) / len(sample) if sample else 0.0
    usual = journal.usual_lengths() if journal is not None else {}
    parts: dict[str, _Sums] = {name: _Sums() for name in sorted(rows)}
    for request, times in (*((request, 1.0) for request in before), *((request, scale) for request in asked)):
        name = request.asked_by or strategy.name
        known = journal is not None and journal.find(request_key(identity, strategy.name, request)) is not None
        length = min(usual.get(name) or _assumed_length(request), request.max_tokens)
        parts.setdefault(name, _Sums()).add(request, length, times, known=known)
    whole = _Sums()
    for part in parts.values():
        whole.join(part)
    reading, writing, at_most = whole.reading, whole.writing, whole.at_most
    return Estimate(
        rows=len(units),
        requests=round(whole.requests),
        in_journal=round(whole.known),
        prompt_tokens=round(reading),
        completion_tokens=round(writing),
        completion_tokens_at_most=round(at_most),
        cost=_cost(price, reading, writing),
        cost_at_most=_cost(price, reading, at_most),
        strategies={
            name: StrategyShare(
                rows=round(rows[name] * scale),
                requests=round(part.requests),
                prompt_tokens=round(part.reading),
                completion_tokens=round(part.writing),
            )
            for name, part in parts.items()
        },
        prompts=tuple(request.messages for request in (*before[:1], *asked)[:prompts]),
    )


@dataclass
class _Sums:
    requests: float = 0.0
    known: float = 0.0
    reading: float = 0.0
    writing: float = 0.0
    at_most: float = 0.0

    def add(self, request: CompletionRequest, length: float, times: float, *, known: bool) -> None:
        self.requests += times
        self.known += times * known
        if not known:
            self.reading += times * about_prompt_tokens(request)
            self.writing += times * length
            self.at_most += times * request.max_tokens

    def join(self, other: _Sums) -> None:
        self.requests += other.requests
        self.known += other.known
        self.reading += other.reading
        self.writing += other.writing
        self.at_most += other.at_most


async def _asked_for(unit: WritingUnit, strategy: Strategy, stand_in: ScriptedLLM) -> str:
    """Let a row ask what it will, whatever becomes of it; returns the name of the strategy that writes it."""
    name = strategy.member(unit).name if isinstance(strategy, MixedStrategy) else strategy.name
    with suppress(CompletionFailure):
        await strategy.write(unit, stand_in)
    return name


def _assumed_length(request: CompletionRequest) -> float:
    if request.schema is None:
        return _FREE_TEXT_TOKENS
    return _FIELD_TOKENS * max(1, _texts(request.schema))


def _texts(schema: Mapping[str, Any]) -> int:
    """How many texts an answer of a schema holds."""
    if schema.get("type") == "array":
        return int(schema.get("maxItems", schema.get("minItems", 1))) * _texts(schema.get("items", {}))
    properties = schema.get("properties")
    return sum(map(_texts, properties.values())) if properties else 1


def _cost(price: PriceConfig | None, reading: float, writing: float) -> float | None:
    if price is None:
        return None
    return cost_of(price, prompt_tokens=round(reading), completion_tokens=round(writing))
