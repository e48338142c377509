"""Judges written queries by themselves: whether anybody would ask this who has not seen the text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field

from multigrain.config import QueryJudgeConfig
from multigrain.engine.protocol import Engine
from multigrain.llm.answers import answer_schema, ask
from multigrain.llm.protocol import CompletionRequest, LLMClient
from multigrain.synthesis.prompts import BUILT_IN, Prompts

QUERY_JUDGE: Final = "query-judge"
"""What the journal calls the one who judges queries."""

_MAX_TOKENS: Final = 64
_QUERY_CHARACTERS: Final = 1000
_TEXT_CHARACTERS: Final = 4000


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number from 1 to 10 is needed")
    return value


_Score = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=10)]


class _Judgment(BaseModel):
    self_contained: _Score
    natural: _Score
    one_intent: _Score
    answered: _Score


_WORDS: Final = {
    "self_contained": "for saying by itself what is wanted",
    "natural": "for being what people would type",
    "one_intent": "for wanting one thing",
    "answered": "for being answered by its text",
}


@dataclass
class QueryJudgeCounts:
    """Counts of judged queries.

    Attributes:
        judged: queries with a judgment.
        refused: those of them that were turned away.
        failed: queries for which no judgment came back: they stay.
        over_limit: queries that were not judged, for the limit on their number or on spending: they stay too.
    """

    judged: int = 0
    refused: int = 0
    failed: int = 0
    over_limit: int = 0


@dataclass
class QueryJudge:
    """A language model that judges queries. One that gets no judgment, for whatever reason, stays.

    Args:
        client: the model; a journaled one is asked once for each query and text.
        engine: where the asking runs.
        config: the limits.
        seed: of the sampler.
        prompts: the templates.
        room: most tokens for a judgment and for what a model thinks before it.
    """

    client: LLMClient
    engine: Engine
    config: QueryJudgeConfig
    seed: int
    prompts: Prompts = BUILT_IN
    room: int = 0
    counts: QueryJudgeCounts = field(default_factory=QueryJudgeCounts, init=False)
    _known: dict[bytes, str] = field(default_factory=dict, init=False)

    def problems(self, queries: Sequence[tuple[str, str]], *, stop: Callable[[], bool] | None = None) -> list[str]:
        """For each (query, text) what is wrong with the query, in words; empty where nothing is.

        Args:
            queries: the queries, each with the text that it was written for.
            stop: asked before each; True asks no further one.
        """
        new = [pair for pair in dict.fromkeys(queries) if _key(pair) not in self._known]
        if self.config.max_queries is not None:
            room = max(0, self.config.max_queries - self.counts.judged - self.counts.failed)
            self.counts.over_limit += len(new[room:])
            new = new[:room]
        for outcome in self.engine.map(self._judge, new, stop=stop):
            self._known[_key(outcome.unit)] = self._problem(outcome.value)
            if outcome.value is not None:
                self.counts.judged += 1
                self.counts.refused += bool(self._known[_key(outcome.unit)])
            elif outcome.failure is not None and outcome.failure.kind == "over_limit":
                self.counts.over_limit += 1
            else:
                self.counts.failed += 1
        return [self._known.get(_key(pair), "") for pair in queries]

    async def _judge(self, pair: tuple[str, str]) -> _Judgment:
        request = query_request(*pair, seed=self.seed, prompts=self.prompts)
        return await ask(self.client, replace(request, room=self.room), _Judgment)

    def _problem(self, judgment: _Judgment | None) -> str:
        scores = {} if judgment is None else judgment.model_dump()
        lowest = min(scores, key=scores.__getitem__, default="")
        if not lowest or scores[lowest] >= self.config.at_least:
            return ""
        return f"the judge gives it {scores[lowest]} of 10 {_WORDS[lowest]}, at least {self.config.at_least}"


def query_request(query: str, text: str, *, seed: int, prompts: Prompts = BUILT_IN) -> CompletionRequest:
    """What a model is asked of a query and the text that it was written for."""
    shown, read = query[:_QUERY_CHARACTERS], text[:_TEXT_CHARACTERS]
    return CompletionRequest(
        messages=prompts.render("query_judge", query=shown, document=read),
        temperature=0.0,
        max_tokens=_MAX_TOKENS,
        seed=seed,
        schema=answer_schema(_Judgment),
        asked_by=QUERY_JUDGE,
    )


def _key(pair: tuple[str, str]) -> bytes:
    query, text = pair
    digest = hashlib.blake2b(f"{len(query)}:".encode(), digest_size=16)
    digest.update((query + text).encode("utf-8", "surrogatepass"))
    return digest.digest()
