from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel, Field

from multigrain.llm.answers import answer_schema, ask
from multigrain.llm.protocol import Completion, CompletionRequest, Message, UnusableAnswer
from multigrain.llm.scripted import Answer, ScriptedLLM


class Query(BaseModel):
    """A shape with a field whose name is also a schema keyword."""

    query: str = Field(min_length=1)
    title: str = "none"


GOOD = json.dumps({"query": "q", "title": "t"})
CUT = Completion('{"query": "q', "length", "m")
PLAIN = CompletionRequest((Message("user", "Write a query."),), max_tokens=100)


def run(*script: Answer, request: CompletionRequest = PLAIN) -> tuple[Query, ScriptedLLM]:
    llm = ScriptedLLM(script)
    return asyncio.run(ask(llm, request, Query)), llm


def test_a_good_answer_takes_one_call() -> None:
    answer, llm = run(GOOD)
    assert answer == Query(query="q", title="t")
    assert llm.calls == 1
    assert llm.requests[0].schema == answer_schema(Query)


def test_a_cut_answer_gets_twice_the_budget_once() -> None:
    answer, llm = run(CUT, GOOD)
    assert answer.query == "q"
    assert [sent.max_tokens for sent in llm.requests] == [100, 200]
    assert llm.requests[0].messages == llm.requests[1].messages
    with pytest.raises(UnusableAnswer) as caught:
        run(CUT, CUT, GOOD)
    assert caught.value.kind == "truncated"


def test_a_wrong_answer_is_shown_to_the_model_once() -> None:
    answer, llm = run('{"query": ""}', GOOD)
    assert answer.query == "q"
    correction = llm.requests[1].messages
    assert [message.role for message in correction] == ["user", "assistant", "user"]
    assert "query" in correction[-1].content
    with pytest.raises(UnusableAnswer) as caught:
        run("prose", "more prose", GOOD)
    assert caught.value.kind == "prose"


def test_no_row_costs_more_than_three_calls() -> None:
    llm = ScriptedLLM([CUT, "prose", "still prose", GOOD])
    with pytest.raises(UnusableAnswer):
        asyncio.run(ask(llm, PLAIN, Query))
    assert llm.calls == 3


def test_a_prefill_is_part_of_the_answer() -> None:
    prefilled = CompletionRequest((Message("user", "Write."), Message("assistant", '{"query": "')))
    answer, llm = run('how", "title": "t"}', request=prefilled)
    assert answer.query == "how"
    answer, llm = run('"}', GOOD, request=prefilled)
    assert [message.role for message in llm.requests[1].messages] == ["user", "assistant", "user"]


def test_the_schema_is_closed_and_complete() -> None:
    schema = answer_schema(Query)
    assert schema["required"] == ["query", "title"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"query", "title"}
    assert schema["properties"]["title"] == {"type": "string"}
