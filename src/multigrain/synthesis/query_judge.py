"""Judges written queries by themselves: whether anybody would ask this who has not seen the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from pydantic import BaseModel, Field

from multigrain.config import QueryJudgeConfig
from multigrain.llm.answers import answer_schema, ask
from multigrain.llm.protocol import CompletionRequest
from multigrain.synthesis.pair_judge import NO_TRUTH, PairJudge
from multigrain.synthesis.prompts import BUILT_IN, Prompts

QUERY_JUDGE: Final = "query-judge"
"""What the journal calls the one who judges queries."""

_MAX_TOKENS: Final = 64
_QUERY_CHARACTERS: Final = 1000
_TEXT_CHARACTERS: Final = 4000


_Score = Annotated[int, NO_TRUTH, Field(ge=1, le=10)]


class QueryJudgment(BaseModel):
    """Scores of a query, from 1 to 10."""

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
class QueryJudge(PairJudge[QueryJudgment]):
    """A language model that judges queries, each with its text. One that gets no judgment, for whatever reason, stays.

    Args:
        config: the limits.
    """

    config: QueryJudgeConfig = field(kw_only=True)

    @property
    def most_pairs(self) -> int | None:
        """Queries that may be judged."""
        return self.config.max_queries

    @property
    def refused(self) -> int:
        """How many of the judged queries were turned away."""
        return sum(bool(self._problem(judgment)) for judgment in self._by_pair.values())

    def problems(self, queries: Sequence[tuple[str, str]]) -> list[str]:
        """For each (query, text) what is wrong with the query, in words; empty where nothing is.

        Args:
            queries: the queries, each with the text that it was written for.
        """
        self.learn(queries)
        return [self._problem(self.judgment(*pair)) for pair in queries]

    async def judge(self, pair: tuple[str, str]) -> QueryJudgment:
        """Ask about one query and its text."""
        request = query_request(*pair, seed=self.seed, prompts=self.prompts)
        return await ask(self.client, replace(request, room=self.room), QueryJudgment)

    def _problem(self, judgment: QueryJudgment | None) -> str:
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
        schema=answer_schema(QueryJudgment),
        asked_by=QUERY_JUDGE,
    )
