"""Judges of false negatives: models that read query and passage side by side.

A language model judges from 0 to 5 how well a passage answers a query. Its rule is MultiCSR's (arXiv 2310.10962):
positives of 3 and more stay, negatives of 3 and less, and the two must not be equal.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

from pydantic import BaseModel, Field

from multigrain.audit.check import Problem
from multigrain.config import JudgeConfig
from multigrain.engine.protocol import Engine
from multigrain.llm.answers import ask
from multigrain.llm.protocol import CompletionRequest, LLMClient
from multigrain.synthesis.prompts import BUILT_IN, Prompts

_MAX_TOKENS: Final = 32
_CHARACTERS: Final = 4000

PairScores = Callable[[list[tuple[str, str]]], Sequence[float]]
"""Scores (query, passage) pairs from 0 to 1: how well the passage answers."""


def pair_key(query: str, passage: str) -> bytes:
    """A key of a pair: 16 bytes, however long the texts are."""
    digest = hashlib.blake2b(f"{len(query)}:".encode(), digest_size=16)
    digest.update((query + passage).encode("utf-8", "surrogatepass"))
    return digest.digest()


class Judge(Protocol):
    """Says which positives are none, and which negatives may be positives."""

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """For each (query, positive) what is wrong, or None."""
        ...

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """For each (query, positive, negative) what is wrong with the negative, or None."""
        ...


class CrossEncoderJudge:
    """A cross-encoder as judge: a negative must score lower than its positive by a margin.

    Args:
        scores: the cross-encoder.
        margin: on its scale from 0 to 1.
    """

    def __init__(self, scores: PairScores, margin: float) -> None:
        self._scores = scores
        self._margin = margin
        self._known: dict[bytes, float] = {}

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Nothing: a positive is only what negatives are compared with."""
        return [None] * len(pairs)

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """Turn away what scores above its positive less the margin."""
        self._learn(pair for query, positive, text in claims for pair in ((query, positive), (query, text)))
        problems: list[Problem | None] = []
        for query, positive, text in claims:
            right, score = self._known[pair_key(query, positive)], self._known[pair_key(query, text)]
            # A score that is no number says nothing in the negative's favour.
            close = not score <= right - self._margin
            detail = f"the cross-encoder scores it {score:.2f}, its positive {right:.2f}"
            problems.append(Problem("false_negative", detail) if close else None)
        return problems

    def _learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair_key(*pair) not in self._known]
        if new:
            for pair, score in zip(new, self._scores(new), strict=True):
                self._known[pair_key(*pair)] = float(score) if math.isfinite(score) else math.nan


class _Judgment(BaseModel):
    score: Annotated[int, Field(ge=0, le=5)]


@dataclass
class JudgeCounts:
    """Counts of judged passages.

    Attributes:
        judged: passages with a judgment.
        failed: passages for which no judgment came back.
        over_limit: passages that were not judged, for the limit on their number or on spending.
    """

    judged: int = 0
    failed: int = 0
    over_limit: int = 0


class LanguageModelJudge:
    """A language model as judge. A passage that gets no score, for whatever reason, stays as it is, and is counted.

    Args:
        client: the model; a journaled one is asked once for each passage, however often the audit runs.
        engine: where the asking runs.
        config: the limits.
        seed: of the sampler.
        prompts: the templates.
    """

    def __init__(
        self, client: LLMClient, engine: Engine, config: JudgeConfig, *, seed: int, prompts: Prompts = BUILT_IN
    ) -> None:
        self._client = client
        self._engine = engine
        self._config = config
        self._seed = seed
        self._prompts = prompts
        self._known: dict[bytes, int | None] = {}
        self.counts = JudgeCounts()

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Turn away positives that are judged low."""
        self._learn(pairs)
        least = self._config.positive_at_least
        return [
            Problem("judged_positive", f"the judge gives its positive {score} of 5, at least {least}")
            if (score := self._known[pair_key(*pair)]) is not None and score < least
            else None
            for pair in pairs
        ]

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """Turn away negatives that are judged high, or as high as their positive."""
        self._learn(pair for query, positive, text in claims for pair in ((query, positive), (query, text)))
        problems: list[Problem | None] = []
        for query, positive, text in claims:
            score, right = self._known[pair_key(query, text)], self._known[pair_key(query, positive)]
            wrong = score is not None and (
                score > self._config.negative_at_most or (right is not None and score >= right)
            )
            detail = f"the judge gives it {score} of 5, its positive {'no score' if right is None else right}"
            problems.append(Problem("false_negative", detail) if wrong else None)
        return problems

    def _learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair_key(*pair) not in self._known]
        if self._config.max_passages is not None:
            room = max(0, self._config.max_passages - self.counts.judged - self.counts.failed)
            self.counts.over_limit += len(new[room:])
            self._known |= {pair_key(*pair): None for pair in new[room:]}
            new = new[:room]
        for outcome in self._engine.map(self._judge, new):
            self._known[pair_key(*outcome.unit)] = outcome.value
            if outcome.value is not None:
                self.counts.judged += 1
            elif outcome.failure is not None and outcome.failure.kind == "over_limit":
                self.counts.over_limit += 1
            else:
                self.counts.failed += 1

    async def _judge(self, pair: tuple[str, str]) -> int:
        query, passage = (part[:_CHARACTERS] for part in pair)
        request = CompletionRequest(
            messages=self._prompts.render("judge", query=query, passage=passage),
            temperature=0.0,
            max_tokens=_MAX_TOKENS,
            seed=self._seed,
        )
        return (await ask(self._client, request, _Judgment)).score
