"""Ranks few-shot examples by how likely they make a local model find the others' answers.

Demonstrations under which a language model predicts the answers of a task best are those that tell it most about
the task's latent concept (arXiv 2301.11916, which learns tokens for the concept first: **notes**). Here the model
is asked directly: each example is shown to it, and the known queries of some other examples are scored: **ours**.
What counts is by how much they become likelier than with no example shown, as some queries are likelier than others
whatever is shown, and no example is judged by its own. A small local model ranks, whichever model writes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Final, Protocol

from multigrain.engine.protocol import Engine
from multigrain.errors import ConfigError
from multigrain.llm.protocol import CompletionRequest
from multigrain.records import Document
from multigrain.synthesis.few_shot import Demonstration, FixedSelector
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import Writer

_PROBES: Final = 6
_DOCUMENT_CHARACTERS: Final = 1200
"""Two documents and the queries fit a small model's context."""


class Scorer(Protocol):
    """A model that can tell how likely it finds an answer."""

    async def log_likelihood(self, request: CompletionRequest, answer: str) -> float:
        """Natural logarithm of the probability that the model gives an answer to a request."""
        ...


def rank_by_likelihood(
    demonstrations: Sequence[Demonstration], scorer: Scorer, engine: Engine, *, seed: int, probes: int = _PROBES
) -> list[tuple[Demonstration, float]]:
    """The examples, best first, each with its score.

    The score is the mean gain in log-likelihood of the other queries over showing nothing, per character.

    Args:
        demonstrations: each with a query; the order decides between equals.
        scorer: the model.
        engine: where it is asked.
        seed: decides which of the others are probes.
        probes: how many other queries an example is judged by (by one more where it is no probe itself).

    Raises:
        ConfigError: fewer than two examples have a query.
    """
    held = [demonstration for demonstration in demonstrations if demonstration.query is not None]
    if len(held) < 2:
        raise ConfigError(
            "few_shot: likelihood ranks examples by each other's queries, "
            f"and {len(held)} of {len(demonstrations)} examples have one: give at least two"
        )

    # The same few judge everybody, as far as nobody judges itself.
    judges = sorted(range(len(held)), key=lambda number: random.Random(f"{seed}:{number}").random())[: probes + 1]

    async def likelihood(pair: tuple[int | None, int]) -> float:
        shown, judge = pair
        query = held[judge].query or ""
        request = _request(None if shown is None else held[shown], held[judge])
        return await scorer.log_likelihood(request, query) / len(query)

    pairs = [(shown, judge) for shown in (None, *range(len(held))) for judge in judges if shown != judge]
    likelihoods: dict[tuple[int | None, int], float] = {}
    for outcome in engine.map(likelihood, pairs):
        if outcome.failure is not None:
            raise outcome.failure.error
        if outcome.value is not None:
            likelihoods[outcome.unit] = outcome.value
    scores = {
        place: fmean(likelihoods[place, judge] - likelihoods[None, judge] for judge in judges if judge != place)
        for place in range(len(held))
    }
    order = sorted(scores, key=lambda place: (-scores[place], place))
    return [(held[place], scores[place]) for place in order]


def _request(shown: Demonstration | None, asked: Demonstration) -> CompletionRequest:
    """The prompt for one example's query, with another example before it, or none."""
    few_shot = None if shown is None else FixedSelector((shown,), 1)
    writer = Writer(document_characters=_DOCUMENT_CHARACTERS, temperature=0.0, few_shot=few_shot)
    return writer.request(WritingUnit(Document("probe", asked.document)), "query", shows="query", max_tokens=1)
