"""What a synthesis would ask and cost, found out by running it against a stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multigrain.config import PriceConfig
from multigrain.engine.protocol import Engine
from multigrain.llm.prices import cost_of
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM
from multigrain.synthesis.journal import Journal
from multigrain.synthesis.journal_records import request_key
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit

__all__ = ["Estimate", "estimate_synthesis"]

_SAMPLED_ROWS: Final = 200
_BYTES_A_TOKEN: Final = 4.0
"""Of English, UTF-8; other languages need more tokens, code some more."""

_MESSAGE_TOKENS: Final = 6
"""What a chat template puts around a message."""

_FREE_TEXT_TOKENS: Final = 30
_FIELD_TOKENS: Final = 70
"""Assumed length of an answer, and of one field of a structured one, where the journal has no answers to go by."""


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
    """
    step = max(1, len(units) // _SAMPLED_ROWS)
    sample = units[::step][:_SAMPLED_ROWS]
    stand_in = ScriptedLLM()
    for _ in engine.map(lambda unit: strategy.write(unit, stand_in), sample):
        pass
    asked = stand_in.requests
    scale = len(units) / len(sample) if sample else 0.0
    open_requests = [
        request
        for request in asked
        if journal is None or journal.find(request_key(identity, strategy.name, request)) is None
    ]
    usual = _usual_length(journal)
    reading = sum(map(_prompt_tokens, open_requests)) * scale
    writing = sum(min(usual or _assumed_length(request), request.max_tokens) for request in open_requests) * scale
    at_most = sum(request.max_tokens for request in open_requests) * scale
    return Estimate(
        rows=len(units),
        requests=round(len(asked) * scale),
        in_journal=round((len(asked) - len(open_requests)) * scale),
        prompt_tokens=round(reading),
        completion_tokens=round(writing),
        completion_tokens_at_most=round(at_most),
        cost=_cost(price, reading, writing),
        cost_at_most=_cost(price, reading, at_most),
        prompts=tuple(request.messages for request in asked[:prompts]),
    )


def _prompt_tokens(request: CompletionRequest) -> float:
    return sum(len(m.content.encode("utf-8", "replace")) / _BYTES_A_TOKEN + _MESSAGE_TOKENS for m in request.messages)


def _assumed_length(request: CompletionRequest) -> float:
    if request.schema is None:
        return _FREE_TEXT_TOKENS
    return _FIELD_TOKENS * max(1, len(request.schema.get("properties", ())))


def _usual_length(journal: Journal | None) -> float | None:
    totals = journal.totals() if journal is not None else None
    return totals.completion_tokens / totals.completions if totals is not None and totals.completions else None


def _cost(price: PriceConfig | None, reading: float, writing: float) -> float | None:
    if price is None:
        return None
    return cost_of(price, prompt_tokens=round(reading), completion_tokens=round(writing))
