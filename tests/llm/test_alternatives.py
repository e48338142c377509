"""Numbers by their probabilities: what endpoints tell, what they refuse, and what nobody should have told."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from multigrain.audit.judges import Grade, LanguageModelJudge
from multigrain.config import JudgeConfig, LLMConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.alternatives import (
    dump_alternatives,
    expected_number,
    load_alternatives,
    read_alternatives,
)
from multigrain.llm.openai_compatible import OpenAICompatibleLLM
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.retry import Backoff
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import plain_request, request_key
from multigrain.llm.session.session import JournaledClient

from .conftest import Endpoint, chat_answer, error_answer

ANSWER = '{"score": 4}'
TOKENS = ["{", '"score', '":', " ", "4", "}"]
PAIRS = [("where is it", f"passage {number}") for number in range(4)]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-7f3a9b")


def told(chances: dict[str, float], tokens: list[str] | None = None, place: int = 4) -> dict[str, Any]:
    """The `logprobs` of an answer, with the probabilities of what might stand at one place."""
    content = [{"token": token, "logprob": 0.0, "top_logprobs": []} for token in tokens or TOKENS]
    listed = [{"token": token, "logprob": math.log(chance)} for token, chance in chances.items()]
    content[place] |= {"logprob": listed[0]["logprob"], "top_logprobs": listed}
    return {"content": content}


def expected(logprobs: Any, value: int = 4) -> float | None:
    return expected_number(read_alternatives(logprobs), "score", value, low=0, high=5)


def test_a_number_is_the_mean_over_the_probabilities_of_numbers_on_its_scale() -> None:
    assert expected(told({"4": 0.5, "3": 0.25, "5": 0.25})) == pytest.approx(4.0)
    assert expected(told({"4": 0.6, "5": 0.2, "}": 0.2})) == pytest.approx((2.4 + 1.0) / 0.8)
    assert expected(told({"4": 0.6, "7": 0.2, "42": 0.1})) == pytest.approx(4.0)  # no grades, and left out
    assert expected(told({" 4": 0.5, "3": 0.5}, ["{", '"score":', " 4", "}"], 2)) == pytest.approx(3.5)
    assert expected(told({"4}": 0.5, "3}": 0.25, "3": 0.25}, ['{"score', '": ', "4}"], 2)) == pytest.approx(3.5)


def test_the_last_field_of_the_name_counts_and_thoughts_before_it_do_not() -> None:
    tokens = ["<think>", '"score": ', "1", "</think>", '{"words": "', "12", '", "score": ', "4", "}"]
    assert expected(told({"4": 0.75, "5": 0.25}, tokens, 7)) == pytest.approx(4.25)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        "0.5",
        {"content": None},
        {"content": []},
        {"content": ["4"]},
        {"content": [{"token": 4}]},
        {"content": [{"token": "4", "logprob": -0.1}]},  # not the answer's tokens
        told({"4": 0.1, "}": 0.9}),  # it would rather have written no number
        told({"3": 1.0}, ["{", '"score', '":', " ", "3", "}"]),  # another number than the answer's
        {
            "content": [
                {**entry, "logprob": math.nan, "top_logprobs": math.nan} for entry in told({"4": 1.0})["content"]
            ]
        },
        told({"4": 1.0, "3": 1.0, "2": 1.0}),  # more than all
        json.loads(json.dumps(told({"4": 1.0})).replace("0.0", '"0.0"')),
    ],
)
def test_what_is_broken_counts_as_not_told(logprobs: Any) -> None:
    assert expected(logprobs) is None


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-(10**400), 10**400)
    | st.text(max_size=4)
    | st.sampled_from(["4", " 4", "4}", "5", '"score": ', "\ud800", "٤", "token", "logprob"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["token", "logprob", "top_logprobs", "bytes", "content"]), inner, max_size=4)
    ),
    max_leaves=20,
)
entries = st.fixed_dictionaries(
    {"token": st.sampled_from([*TOKENS, "5", "٤"]) | junk, "logprob": junk, "top_logprobs": junk}
)


@given(junk | st.fixed_dictionaries({"content": st.lists(entries | junk, max_size=8)}), st.integers(0, 5))
@example({"content": [{"token": '"score": 4', "logprob": 0.0, "top_logprobs": [{"token": "4", "logprob": 1e-4}]}]}, 4)
@settings(max_examples=500, deadline=None)
def test_hostile_probabilities_crash_nothing_and_stay_on_the_scale(logprobs: Any, value: int) -> None:
    alternatives = read_alternatives(logprobs)

    assert load_alternatives(dump_alternatives(alternatives)) == alternatives
    number = expected_number(alternatives, "score", value, low=0, high=5)
    assert number is None or 0 <= number <= 5


chances = st.dictionaries(st.sampled_from([*"0123456789", " 4", "x", "10", "-1"]), st.floats(0.001, 1), min_size=1)


@given(chances, st.integers(0, 5))
@example({"6": 0.125}, 3)
@settings(max_examples=300, deadline=None)
def test_whatever_is_likely_the_mean_lies_between_the_grades_that_are(weights: dict[str, float], value: int) -> None:
    total = sum(weights.values()) + 0.5
    found = {str(value): 0.5 / total} | {token: weight / total for token, weight in weights.items()}
    number = expected(told(found, ["{", '"score": ', str(value), "}"], 2), value)

    grades = [int(token) for token in found if token.strip() in set("012345")]
    assert number is None or min(grades) <= number <= max(grades)


def _judged(llm: Any, *, probabilities: bool = True, quote: bool = False) -> list[Grade | None]:
    with LocalEngine(concurrency=1) as engine:
        judge = LanguageModelJudge(llm, engine, 3, config=JudgeConfig(quote=quote), probabilities=probabilities)
        try:
            return judge.grades(PAIRS)
        finally:
            engine.run(llm.aclose())


def _client(endpoint: Endpoint) -> OpenAICompatibleLLM:
    config = LLMConfig(provider="openai", model="m", base_url=endpoint.url)
    return OpenAICompatibleLLM(config, backoff=Backoff(first_wait=0.01, longest_wait=0.02))


def _answer(logprobs: Any) -> web.Response:
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}
    return web.json_response(
        {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 6}}
    )


def test_an_endpoint_that_tells_them_is_asked_for_them_and_gives_finer_grades(endpoint: Endpoint) -> None:
    async def tells(number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        return _answer(told({"4": 0.5, "5": 0.5}))

    endpoint.handler = tells

    assert _judged(_client(endpoint)) == [Grade(4, pytest.approx(4.5))] * 4
    assert all(body["logprobs"] is True and body["top_logprobs"] == 5 for body in endpoint.bodies)
    endpoint.bodies.clear()
    assert _judged(_client(endpoint), probabilities=False) == [Grade(4, pytest.approx(4.5))] * 4
    assert not any("logprobs" in body or "top_logprobs" in body for body in endpoint.bodies)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "logprobs is not supported with this model"),
        (400, "Unsupported parameter: 'top_logprobs' is not supported with this model."),
        (403, "You are not allowed to request logprobs from this model."),
        (422, "Extra inputs are not permitted: logprobs"),
        (400, "logprobs and response_format of type json_schema are not supported together"),
    ],
)
def test_an_endpoint_that_refuses_them_is_asked_without_from_then_on(
    endpoint: Endpoint, status: int, words: str
) -> None:
    async def refuses(number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        return error_answer(status, words) if "logprobs" in body or "top_logprobs" in body else chat_answer(ANSWER)

    endpoint.handler = refuses

    assert _judged(_client(endpoint)) == [Grade(4, 4.0)] * 4
    assert [("logprobs" in body, "top_logprobs" in body) for body in endpoint.bodies] == [
        (True, True),
        *[(False, False)] * 4,
    ]
    assert all("response_format" in body for body in endpoint.bodies)


@pytest.mark.parametrize("logprobs", [None, {"content": []}, "none"])
def test_an_endpoint_that_tells_none_is_not_asked_for_them_again(endpoint: Endpoint, logprobs: Any) -> None:
    async def ignores(number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        return _answer(logprobs)

    endpoint.handler = ignores

    assert _judged(_client(endpoint)) == [Grade(4, 4.0)] * 4
    assert ["logprobs" in body for body in endpoint.bodies] == [True, False, False, False]


def test_a_key_that_is_wrong_is_still_said_to_be(endpoint: Endpoint) -> None:
    from multigrain.errors import EndpointRefusedError

    async def refuses(number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        return error_answer(403, "no such key")

    endpoint.handler = refuses
    with pytest.raises(EndpointRefusedError, match="does not accept the key"):
        _judged(_client(endpoint))


REQUEST = CompletionRequest((Message("user", "grade this"),), temperature=0.0)


def test_a_journal_keeps_them_and_requests_without_them_keep_their_keys(tmp_path: Path, endpoint: Endpoint) -> None:
    wanted = CompletionRequest(REQUEST.messages, temperature=0.0, alternatives=5)
    assert "alternatives" not in plain_request(REQUEST)
    assert request_key("openai:m", "judge", REQUEST) != request_key("openai:m", "judge", wanted)

    async def tells(number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        return _answer(told({"4": 0.5, "3": 0.5}))

    endpoint.handler = tells
    with Journal(tmp_path / "journal.sqlite") as journal:

        async def twice() -> list[Any]:
            client = JournaledClient(_client(endpoint), journal, strategy="judge")
            answers = [await client.complete(wanted), await client.complete(wanted), await client.complete(REQUEST)]
            await client.aclose()
            return answers

        first, again, plain = asyncio.run(twice())
        kept = [entry.completion.alternatives for entry in journal.entries()]

    assert len(endpoint.bodies) == 2
    assert first == again
    assert first.alternatives == kept[0] is not None
    assert expected_number(again.alternatives, "score", 4, low=0, high=5) == pytest.approx(3.5)
    assert plain.text == ANSWER
