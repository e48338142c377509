"""Reasoning before an answer is taken off, and nothing else is."""

from __future__ import annotations

import asyncio
import json

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given
from pydantic import BaseModel

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.answers import ask
from multigrain.llm.protocol import Completion, CompletionRequest, Message, UnusableAnswer
from multigrain.llm.reasoning import without_reasoning
from multigrain.llm.scripted import ScriptedLLM
from multigrain.records import Document
from multigrain.synthesis.heldout import write_heldout_queries
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import build_strategy, synthesize

ASKED = CompletionRequest((Message("user", "Write a query."),), max_tokens=100)
GOOD = '{"query": "q"}'
OPEN = Completion("<think>the user wants", "length", "m")
_scraps = st.lists(st.one_of(st.sampled_from(["<think", "think>", "</", "{", "\n", " "]), st.text(max_size=6)))
_texts = _scraps.map("".join).filter(lambda text: "<think>" not in text and "</think>" not in text)


class Query(BaseModel):
    query: str


@given(_texts)
def test_a_text_without_the_tags_is_unchanged(text: str) -> None:
    assert without_reasoning(text) == text


@given(_texts, _texts, st.sampled_from(["<think>", "\n <think>\n", ""]))
def test_what_stands_before_the_end_of_the_reasoning_goes(thought: str, answer: str, opening: str) -> None:
    assume(opening or not thought.lstrip().startswith(("{", "[", "```")))

    assert without_reasoning(f"{opening}{thought}</think>{answer}") == answer.lstrip()


@given(_texts)
def test_an_answer_that_ends_inside_its_reasoning_is_none(thought: str) -> None:
    with pytest.raises(UnusableAnswer, match=r"llm\.extra_body, or raise llm\.max_tokens") as caught:
        without_reasoning(f"<think>{thought}")
    assert caught.value.kind == "reasoning"


@pytest.mark.parametrize(
    "text", [json.dumps({"query": "what does </think> end"}), "between <think> and </think>", "```json\n</think>"]
)
def test_an_answer_that_speaks_of_the_tags_is_left_whole(text: str) -> None:
    assert without_reasoning(text) == text


@pytest.mark.parametrize("before", ["<think>{hm}</think>\n", "hm, {so}\n</think>\n"])
def test_json_is_found_behind_the_reasoning(before: str) -> None:
    llm = ScriptedLLM([before + GOOD])
    assert asyncio.run(ask(llm, ASKED, Query)) == Query(query="q")
    assert llm.calls == 1


def test_reasoning_without_an_end_gets_twice_the_budget_once() -> None:
    llm = ScriptedLLM([OPEN, f"<think>so</think>{GOOD}"])
    assert asyncio.run(ask(llm, ASKED, Query)).query == "q"
    assert [sent.max_tokens for sent in llm.requests] == [100, 200]
    with pytest.raises(UnusableAnswer) as caught:
        asyncio.run(ask(ScriptedLLM([OPEN, OPEN, GOOD]), ASKED, Query))
    assert caught.value.kind == "reasoning"


def test_a_correction_shows_the_answer_and_not_the_reasoning() -> None:
    llm = ScriptedLLM(["<think>hm</think>{}", GOOD])
    asyncio.run(ask(llm, ASKED, Query))
    assert llm.requests[1].messages[1].content == "{}"


@pytest.mark.parametrize(
    ("answer", "query", "kind"),
    [("<think>hm</think>\n\nhow rivers flow", "how rivers flow", None), ("<think>", None, "reasoning")],
)
def test_free_text_is_found_behind_the_reasoning(answer: str, query: str | None, kind: str | None) -> None:
    document = Document("d", "a text about rivers")
    strategy = build_strategy(SynthesisConfig(strategy="mined"), LLMConfig(), seed=1)
    with LocalEngine(concurrency=1) as engine:
        (row,) = synthesize([WritingUnit(document)], strategy, ScriptedLLM(lambda _: answer), engine)
        (heldout,) = write_heldout_queries(
            [document], ScriptedLLM(lambda _: answer), engine, LLMConfig(), characters=500, seed=1
        )
    assert (row.value and row.value.query, heldout.value) == (query, query)
    assert [outcome.failure and outcome.failure.kind for outcome in (row, heldout)] == [kind, kind]
