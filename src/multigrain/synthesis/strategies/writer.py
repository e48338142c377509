"""The base classes of strategies, and the writer that asks models on their behalf."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, TypeVar

from pydantic import BaseModel

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.llm.answers import ask
from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient, Message, UnusableAnswer
from multigrain.records import Level, Mining, SynthesizedRow
from multigrain.synthesis.few_shot import Demonstration, FewShotSelector
from multigrain.synthesis.plain_text import Text, ask_for_query, ask_for_text, whole_sentences
from multigrain.synthesis.prompts import BUILT_IN, Prompts
from multigrain.synthesis.strategies.protocol import LabelUnit, WritingUnit, row_id
from multigrain.synthesis.style import StyleQueries

Shape = TypeVar("Shape", bound=BaseModel)

_QUERY_TOKENS: Final = 40
_LABEL_TEXT_TOKENS: Final = 160


class Passage(BaseModel):
    """One passage."""

    passage: Text


class Opening(BaseModel):
    """A query and the passage that answers it."""

    query: Text
    positive: Text


@dataclass(frozen=True)
class Writer:
    """Asks a model on behalf of a strategy.

    Attributes:
        document_characters: how much of the document the model is shown.
        temperature: of the sampler.
        top_p: of the sampler.
        max_tokens: longest structured answer; and the room of shorter ones where a model thinks before them.
        seed: of the sampler.
        prompts: the templates.
        few_shot: chooses the examples that go before a task; None shows none.
        style: queries of the user's own, shown where a query is to be written; None shows none.
    """

    document_characters: int = 4000
    temperature: float = 0.8
    top_p: float = 0.9
    max_tokens: int = 768
    seed: int = 0
    prompts: Prompts = BUILT_IN
    few_shot: FewShotSelector | None = None
    style: StyleQueries | None = None

    @classmethod
    def from_config(
        cls, synthesis: SynthesisConfig, llm: LLMConfig, *, seed: int, few_shot: FewShotSelector | None = None
    ) -> Writer:
        """The writer that a config describes."""
        return cls(
            document_characters=synthesis.document_characters,
            temperature=llm.temperature,
            top_p=llm.top_p,
            max_tokens=llm.max_tokens,
            seed=seed,
            prompts=Prompts(synthesis.templates),
            few_shot=few_shot,
            style=StyleQueries.read(synthesis.style_queries, synthesis.style_count, seed=seed),
        )

    async def fill(
        self,
        client: LLMClient,
        unit: WritingUnit,
        template: str,
        shape: type[Shape],
        *,
        shows: Mapping[str, str | tuple[str, ...]],
        **values: Any,
    ) -> Shape:
        """Ask for a structured answer.

        Args:
            client: the model.
            unit: the row.
            template: the prompt.
            shape: what the answer must be.
            shows: for each field of the answer the field of a few-shot example that shows it, or, for a list of
                texts, a tuple of one such field.
            values: what the template is given besides what every template is.

        Raises:
            UnusableAnswer: no usable answer.
            ConfigError: no few-shot example holds what would be shown.
        """
        return await ask(client, self.request(unit, template, shows=shows, **values), shape)

    async def text(
        self,
        client: LLMClient,
        unit: WritingUnit,
        template: str,
        *,
        shows: str,
        max_tokens: int,
        stop: tuple[str, ...],
        **values: Any,
    ) -> Completion:
        """Ask for free text: what models of a hundred million parameters can do, and what costs least.

        Args:
            client: the model.
            unit: the row.
            template: the prompt.
            shows: the field of a few-shot example that shows the answer.
            max_tokens: longest answer.
            stop: texts that end it.
            values: what the template is given besides what every template is.

        Raises:
            UnusableAnswer: the model did not come to the end of its reasoning.
        """
        request = self.request(unit, template, shows=shows, max_tokens=max_tokens, stop=stop, **values)
        return await ask_for_text(client, request)

    def request(
        self,
        unit: WritingUnit,
        template: str,
        *,
        shows: str | Mapping[str, str | tuple[str, ...]],
        max_tokens: int | None = None,
        stop: tuple[str, ...] = (),
        **values: Any,
    ) -> CompletionRequest:
        """The request for one answer, few-shot examples first; see `fill` and `text`."""
        filled = {
            "document": unit.shown(self.document_characters),
            "title": unit.document.title,
            "index": unit.index,
            "query": unit.query,
            "style": unit.style,
            **values,
        }
        messages = self.prompts.render(template, **filled)
        if self.few_shot is not None:
            messages = self._with_examples(messages, unit, shows, has_query=filled["query"] is not None)
        if self.style is not None and filled["query"] is None:
            messages = self.style.before(messages, self.prompts, row_id("", unit))
        return CompletionRequest(
            messages=messages,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens if max_tokens is None else max_tokens,
            seed=self.seed + unit.index,
            stop=stop,
            room=self.max_tokens,
        )

    async def query(self, client: LLMClient, unit: WritingUnit) -> str:
        """The unit's query: the given one, or one written in a call of its own.

        Raises:
            UnusableAnswer: the model wrote none, or came to no end with twice the usual room.
        """
        if unit.query is not None:
            return unit.query
        if unit.label is not None:
            return await self._label_text(client, unit, unit.label)
        summary = unit.style.query_type == "summary"
        # A summary's second sentence is about details; a query is one.
        stop = ("\n", ". ") if summary else ("\n",)
        request = self.request(unit, "query", shows="query", max_tokens=_QUERY_TOKENS, stop=stop)
        return await ask_for_query(client, request, summary=summary)

    async def opening(self, client: LLMClient, unit: WritingUnit, *, write_positive: bool) -> tuple[str, str]:
        """Query and positive, as the first step of strategies that write negatives in later ones."""
        if not write_positive or unit.query is not None:
            return await self.query(client, unit), unit.document.text
        shows = {"query": "query", "positive": "positive"}
        answer = await self.fill(client, unit, "opening", Opening, shows=shows)
        return answer.query, answer.positive

    async def _label_text(self, client: LLMClient, unit: WritingUnit, label: LabelUnit) -> str:
        """A text of some sentences that has a label and none of the others."""
        request = CompletionRequest(
            messages=self.prompts.render(
                "label_text",
                label=label.name,
                description=label.description,
                others=label.others,
                examples=[(name, text[: self.document_characters]) for name, text in label.examples],
                index=unit.index,
            ),
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=_LABEL_TEXT_TOKENS,
            seed=self.seed + unit.index,
            room=self.max_tokens,
        )
        text = whole_sentences(await ask_for_text(client, request))
        if not text:
            raise UnusableAnswer("empty", f"the model wrote no text for the label {label.name!r}")
        return text

    def _with_examples(
        self,
        messages: tuple[Message, ...],
        unit: WritingUnit,
        shows: str | Mapping[str, str | tuple[str, ...]],
        *,
        has_query: bool,
    ) -> tuple[Message, ...]:
        assert self.few_shot is not None  # noqa: S101 - asked by the caller
        fields = {shows} if isinstance(shows, str) else {_field(shown) for shown in shows.values()}
        if has_query:
            fields.add("query")
        picked = self.few_shot.pick(row_id("", unit), frozenset(fields))
        examples = [
            {
                "document": example.document[: self.document_characters],
                "query": example.query if has_query else None,
                "answer": _shown(example, shows),
            }
            for example in picked
        ]
        shown = self.prompts.render("examples", examples=examples)[-1].content
        *before, last = messages
        return (*before, Message(last.role, f"{shown}\n\n{last.content}"))


DEFAULT_WRITER: Final = Writer()
"""The writer of strategies that are built without a config."""


@dataclass(frozen=True)
class StrategySettings:
    """What a strategy is built from.

    Attributes:
        synthesis: the config's section.
        llm: the config's section.
        seed: the run's.
        writer: asks the model as the config says.
    """

    synthesis: SynthesisConfig
    llm: LLMConfig
    seed: int
    writer: Writer


@dataclass(frozen=True)
class BuiltInStrategy:
    """A strategy that asks through a `Writer`.

    Attributes:
        name: what configs and journals call it.
        writer: asks the model.
    """

    name: ClassVar[str]

    writer: Writer = DEFAULT_WRITER

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return cls(settings.writer)


@dataclass(frozen=True)
class PassageStrategy(BuiltInStrategy):
    """A strategy whose positive is the document, or a passage that is written with the query.

    Attributes:
        write_positive: whether the positive is written too.
    """

    write_positive: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return cls(settings.writer, write_positive=settings.synthesis.positive == "written")


def written_row(
    strategy: str,
    unit: WritingUnit,
    *,
    query: str,
    positive: str | None = None,
    negatives: Mapping[Level, str] | None = None,
    candidates: Mapping[Level, tuple[str, ...]] | None = None,
    mining: Mining = "bands",
) -> SynthesizedRow:
    """The row of a unit.

    Args:
        strategy: the strategy's name.
        unit: the unit.
        query: the query.
        positive: the passage that answers it; None for the unit's document.
        negatives: by the level they were written for.
        candidates: more of them.
        mining: how levels that were not written are filled.
    """
    return SynthesizedRow(
        id=row_id(strategy, unit),
        document_id=unit.document.id,
        query=query,
        positive=unit.document.text if positive is None else positive,
        negatives=dict(negatives or {}),
        strategy=strategy,
        candidates=dict(candidates or {}),
        mining=mining,
    )


def _field(shown: str | tuple[str, ...]) -> str:
    return shown if isinstance(shown, str) else shown[0]


def _shown(example: Demonstration, shows: str | Mapping[str, str | tuple[str, ...]]) -> str:
    """An example's answer, in the form that the model's own must have."""
    if isinstance(shows, str):
        return example.one(shows) or ""
    answer = {
        name: example.one(field) if isinstance(field, str) else list(example.several(field[0]))
        for name, field in shows.items()
    }
    return json.dumps(answer, ensure_ascii=False)
