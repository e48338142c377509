"""One field a call: what a model of a hundred million parameters can still do."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient
from multigrain.llm.structured import UnusableAnswer
from multigrain.records import LEVELS, Level, SynthesizedRow
from multigrain.synthesis.prompts import BUILT_IN, Prompts
from multigrain.synthesis.strategies.protocol import WritingUnit, row_id, unit_values

__all__ = ["StepwiseStrategy", "clean_line", "summary_as_query"]

_QUERY_TOKENS: Final = 40
_NEGATIVE_TOKENS: Final = 72
_LABEL: Final = re.compile(r"^(?:[-*•\d.)\s]*)(?:(?:search )?query|question|summary|answer)\s*:\s*", re.I)
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s|$)")
# "This text describes a function that …": nobody searches like that, and every row would begin with it.
_ABOUT_THE_TEXT: Final = re.compile(
    r"^(?:this|the|that) (?:\w+ ){0,2}?(?:text|document|documentation|passage|article|paragraph|snippet|section"
    r"|code|script) (?:\w+ly )?(?:is about|is an? (?:description|explanation|summary|overview) of|deals with|describes"
    r"|explains|discusses|provides|presents|outlines|summari[sz]es|introduces|defines|details|shows|covers"
    r"|talks about)\s+"
    r"(?:(?:a|an|the) (?:(?:brief|short|detailed|clear|concise) )?"
    r"(?:description|explanation|summary|overview|definition|discussion) of\s+)?",
    re.I,
)


@dataclass(frozen=True)
class StepwiseStrategy:
    """Asks for the query, then, where negatives are wanted, for each of them by itself.

    Attributes:
        document_characters: how much of the document the model is shown.
        temperature: of the sampler.
        top_p: of the sampler.
        seed: of the sampler.
        prompts: the templates.
    """

    document_characters: int = 4000
    temperature: float = 0.8
    top_p: float = 0.9
    seed: int = 0
    prompts: Prompts = BUILT_IN

    @classmethod
    def from_config(cls, synthesis: SynthesisConfig, llm: LLMConfig, *, seed: int) -> StepwiseStrategy:
        """The strategy that a config describes."""
        return cls(
            synthesis.document_characters, llm.temperature, llm.top_p, seed, prompts=Prompts(synthesis.templates)
        )

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        return "stepwise"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row; see `Strategy.write`."""
        query = unit.query if unit.query is not None else await self._write_query(unit, client)
        negatives: dict[Level, str] = {}
        if unit.with_negatives:
            answers = await asyncio.gather(*(client.complete(self._negative_request(unit, level)) for level in LEVELS))
            negatives = {
                level: text
                for level, answer in zip(LEVELS, answers, strict=True)
                if (text := _whole_sentences(answer))
            }
        return SynthesizedRow(
            id=row_id(self.name, unit),
            document_id=unit.document.id,
            query=query,
            positive=unit.document.text,
            negatives=negatives,
            strategy=self.name,
        )

    async def _write_query(self, unit: WritingUnit, client: LLMClient) -> str:
        query = clean_line((await client.complete(self._query_request(unit))).text)
        if unit.style.query_type == "summary":
            query = summary_as_query(query)
        if not query:
            raise UnusableAnswer("empty", "the model wrote no query")
        return query

    def _query_request(self, unit: WritingUnit) -> CompletionRequest:
        messages = self.prompts.render("query", **self._values(unit))
        return CompletionRequest(
            messages=messages,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=_QUERY_TOKENS,
            seed=self.seed + unit.index,
            # A summary's second sentence is about details; a query is one.
            stop=("\n", ". ") if unit.style.query_type == "summary" else ("\n",),
        )

    def _negative_request(self, unit: WritingUnit, level: Level) -> CompletionRequest:
        return CompletionRequest(
            messages=self.prompts.render("negative", **self._values(unit), level=int(level)),
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=_NEGATIVE_TOKENS,
            seed=self.seed + unit.index,
            stop=("\n\n",),
        )

    def _values(self, unit: WritingUnit) -> dict[str, Any]:
        return unit_values(unit, characters=self.document_characters)


def clean_line(answer: str) -> str:
    """The first line of an answer without what small models put around it: labels, quotes, list marks."""
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    return _LABEL.sub("", lines[0]).strip().strip("\"'`*").strip() if lines else ""


def summary_as_query(summary: str) -> str:
    """A summary without the words that speak of the text instead of its subject."""
    return _ABOUT_THE_TEXT.sub("", summary, count=1).strip().rstrip(".")


def _whole_sentences(answer: Completion) -> str:
    """The answer as one paragraph; where it was cut at the token limit, only its whole sentences."""
    text = " ".join(answer.text.split())
    if answer.finish_reason != "length":
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""
