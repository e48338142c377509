from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel, Field

from multigrain.llm.answers import answer_schema
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient, Message
from multigrain.llm.scripted import ScriptedLLM


def request(text: str, **settings: object) -> CompletionRequest:
    return CompletionRequest((Message("user", text),), **settings)  # type: ignore[arg-type]


def answers(llm: ScriptedLLM, *texts: str) -> list[str]:
    return [asyncio.run(llm.complete(request(text))).text for text in texts]


def test_it_is_a_client_and_logs_what_it_was_asked() -> None:
    llm = ScriptedLLM(["one", "two"])
    assert isinstance(llm, LLMClient)
    assert answers(llm, "a", "b") == ["one", "two"]
    assert [sent.messages[0].content for sent in llm.requests] == ["a", "b"]
    with pytest.raises(CompletionFailure, match="no answer left"):
        answers(llm, "c")


def test_a_mapping_answers_by_what_the_prompt_holds() -> None:
    llm = ScriptedLLM({"cat": "meow", "dog": "woof"})
    assert answers(llm, "a dog", "a cat") == ["woof", "meow"]
    with pytest.raises(CompletionFailure, match="for this prompt"):
        answers(llm, "a fish")


def test_a_function_can_play_errors_and_cut_answers() -> None:
    def script(sent: CompletionRequest) -> str | Completion | Exception:
        if sent.messages[0].content == "fail":
            return CompletionFailure("timeout", "scripted")
        return Completion("cut off he", "length", "m")

    llm = ScriptedLLM(script)
    assert asyncio.run(llm.complete(request("x"))).finish_reason == "length"
    with pytest.raises(CompletionFailure, match="scripted"):
        answers(llm, "fail")


class Inner(BaseModel):
    kind: str
    score: int = Field(ge=3)


class Shape(BaseModel):
    query: str = Field(min_length=3, max_length=40)
    inner: Inner
    many: list[Inner] = Field(min_length=2)
    flag: bool
    maybe: str | None


def test_plausible_answers_follow_the_schema_and_depend_on_the_request_alone() -> None:
    question = request("A long document about sorting numbers quickly. Write a query.", schema=answer_schema(Shape))
    first, second = (asyncio.run(ScriptedLLM().complete(question)).text for _ in range(2))
    assert first == second
    answer = Shape.model_validate(json.loads(first), strict=True)
    assert answer.query != answer.inner.kind
    other = asyncio.run(ScriptedLLM().complete(request("A document about cooking rice well.", schema=question.schema)))
    assert other.text != first
