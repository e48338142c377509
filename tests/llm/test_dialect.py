"""What endpoints turn down, wrap and ignore, and what is learnt from it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from multigrain.config import LLMConfig
from multigrain.errors import EndpointRefusedError
from multigrain.llm.openai_compatible import OpenAICompatibleLLM
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, Message, UnusableAnswer
from multigrain.llm.retry import Backoff
from multigrain.llm.wire import read_completion
from multigrain.synthesis.plain_text import ask_for_query

from .conftest import Endpoint, chat_answer, error_answer

QUESTION = CompletionRequest((Message("user", "Write a query."),), max_tokens=40, stop=("\n",), room=768)
SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "minLength": 1}},
    "required": ["query"],
    "additionalProperties": False,
}
RAW = "Invalid JSON payload received. Unknown name \"additionalProperties\" at 'generation_config.response_schema'"
NESTED = {"error": {"code": 400, "message": RAW, "status": "INVALID_ARGUMENT"}}
PASSED_ON = {
    "error": {
        "message": "Provider returned error",
        "code": 400,
        "metadata": {"raw": json.dumps(NESTED), "provider_name": "Google AI Studio"},
    }
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-7f3a9b")


def client(endpoint: Endpoint, **settings: Any) -> OpenAICompatibleLLM:
    config = LLMConfig(provider="openai", model="m", base_url=endpoint.url, **settings)
    return OpenAICompatibleLLM(config, backoff=Backoff(first_wait=0.01, longest_wait=0.02))


def ask(llm: OpenAICompatibleLLM, *requests: CompletionRequest) -> list[Completion | BaseException]:
    """The answers, or why there were none, one after the other."""

    async def in_turn() -> list[Completion | BaseException]:
        answers: list[Completion | BaseException] = []
        for request in requests:
            answers += await asyncio.gather(llm.complete(request), return_exceptions=True)
        await llm.aclose()
        return answers

    return asyncio.run(in_turn())


def failure(llm: OpenAICompatibleLLM, request: CompletionRequest = QUESTION) -> CompletionFailure:
    (answer,) = ask(llm, request)
    assert isinstance(answer, CompletionFailure)
    return answer


@pytest.mark.parametrize("shown", ["tags", "no opening tag", "beside", "hidden"])
def test_a_model_that_thinks_first_gets_its_room_and_no_stops_from_then_on(endpoint: Endpoint, shown: str) -> None:
    thought = "Okay, the user wants a query.\n" * 20

    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        answer = (
            '{"query": "how rivers flow"}' if "response_format" in body else "how rivers flow\nIt asks for rivers."
        )
        enough, thinks = body["max_tokens"] >= 300, shown in ("beside", "hidden")
        if thinks:
            beside = {"reasoning_content": thought} if shown == "beside" else {}
            message = {"role": "assistant", "content": answer.split("\n", maxsplit=1)[0] if enough else "", **beside}
            finish = "stop" if enough else "length"
            usage = {"completion_tokens_details": {"reasoning_tokens": 150}} if shown == "hidden" else {}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return web.json_response({"choices": [choice], "usage": usage})
        text = f"{'<think>' if shown == 'tags' else ''}{thought}</think>\n{answer}"
        for stop in body.get("stop", ()):
            text = text.partition(stop)[0]
        return chat_answer(text if enough else text[:200], "stop" if enough or "stop" in body else "length")

    endpoint.handler = handle
    llm = client(endpoint)

    async def four() -> list[str]:
        queries = [await ask_for_query(llm, QUESTION) for _ in range(4)]
        await llm.aclose()
        return queries

    assert asyncio.run(four()) == ["how rivers flow"] * 4
    assert len(endpoint.bodies) == 5  # one more than queries: what was learnt was learnt once
    assert (endpoint.bodies[0]["max_tokens"], endpoint.bodies[0]["stop"]) == (40, ["\n"])
    assert {(body["max_tokens"], "stop" in body) for body in endpoint.bodies[2:]} == {(768, False)}


def test_a_model_that_does_not_think_is_asked_as_before(endpoint: Endpoint) -> None:
    endpoint.handler = _always(lambda body: chat_answer("how rivers flow"))
    ask(client(endpoint), QUESTION, QUESTION)
    assert {(body["max_tokens"], *body["stop"]) for body in endpoint.bodies} == {(40, "\n")}


@pytest.mark.parametrize(("status", "error"), [(400, [NESTED]), (400, PASSED_ON), (200, PASSED_ON)])
def test_a_schema_that_is_turned_down_in_whatever_wrapping_is_put_another_way(
    endpoint: Endpoint, status: int, error: Any
) -> None:
    def answer(body: dict[str, Any]) -> web.Response:
        if "additionalProperties" in json.dumps(body.get("response_format", {})):
            return web.json_response(error, status=status)
        return chat_answer('{"query": "q"}')

    endpoint.handler = _always(answer)
    request = CompletionRequest(QUESTION.messages, schema=SCHEMA)
    answers = ask(client(endpoint), *[request] * 4)
    assert [isinstance(one, Completion) and one.text for one in answers] == ['{"query": "q"}'] * 4
    assert len(endpoint.bodies) == 6
    form = endpoint.bodies[-1]["response_format"]
    assert form["json_schema"]["schema"]["properties"] == {"query": {"type": "string"}}


def test_an_endpoint_that_takes_no_schema_at_all_is_asked_in_words(endpoint: Endpoint) -> None:
    endpoint.handler = _always(
        lambda body: (
            error_answer(400, "'response_format.type' must be 'text'")
            if "response_format" in body
            else chat_answer('{"query": "q"}')
        )
    )
    (answer,) = ask(client(endpoint), CompletionRequest(QUESTION.messages, schema=SCHEMA))
    assert isinstance(answer, Completion)
    assert "JSON schema" in endpoint.bodies[-1]["messages"][-1]["content"]


def test_an_optional_parameter_that_is_turned_down_in_nested_words_is_left_out(endpoint: Endpoint) -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    endpoint.handler = _always(
        lambda body: (
            web.json_response({"object": "error", "message": {"detail": detail}, "code": None}, status=422)
            if "seed" in body
            else chat_answer("ok")
        )
    )
    ask(client(endpoint), QUESTION, QUESTION)
    assert [("seed" in body) for body in endpoint.bodies] == [True, False, False]


def test_a_limit_on_the_tokens_of_an_answer_is_kept_from_then_on(endpoint: Endpoint) -> None:
    endpoint.handler = _always(
        lambda body: (
            error_answer(400, "max_tokens is too large: 768. This model supports at most 512 completion tokens")
            if body["max_tokens"] > 512
            else chat_answer("ok")
        )
    )
    longer = CompletionRequest(QUESTION.messages, max_tokens=768)
    ask(client(endpoint), longer, longer)
    assert [body["max_tokens"] for body in endpoint.bodies] == [768, 512, 512]


def test_room_that_does_not_fit_the_context_is_given_up_before_the_request_is(endpoint: Endpoint) -> None:
    def answer(body: dict[str, Any]) -> web.Response:
        if body["max_tokens"] > 100:
            return error_answer(400, "This model's maximum context length is 256 tokens")
        return chat_answer("<think>short</think>how rivers flow")

    endpoint.handler = _always(answer)
    answers = ask(client(endpoint), QUESTION, QUESTION)
    assert all(isinstance(one, Completion) for one in answers)
    assert [body["max_tokens"] for body in endpoint.bodies] == [40, 768, 40]


# An error as an endpoint words it: its status, what it is taken for, and what of it reaches people.
ERRORS: list[tuple[int, Any, str, str]] = [
    (400, {"error": {"message": "filtered", "code": "content_filter"}}, "content_filter", "filtered"),
    (400, {"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content_filter", "x"),
    (403, {"error": {"message": "requires moderation: your input was flagged"}}, "content_filter", "was flagged"),
    (400, {"code": "data_inspection_failed", "message": "Input data may be inappropriate"}, "content_filter", "Input"),
    (400, {"error": {"message": "prompt is too long: 9 > 8"}}, "too_long", "prompt is too long"),
    (400, {"error": "no user turn"}, "bad_request", "400 no user turn"),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, "bad_request", "field required"),
    (200, {"error": {"message": "Provider returned error", "metadata": {"raw": "it fell over"}}}, "server_error",
     "500 Provider returned error: it fell over"),
    (200, {"error": {"message": "busy", "code": 429}}, "rate_limited", "busy"),
    (200, {"error": {"message": "too many", "code": "rate_limit_exceeded"}}, "rate_limited", "too many"),
    (200, {"object": "error", "message": "no such adapter", "code": 400}, "bad_request", "no such adapter"),
    (200, {"status": "ok"}, "malformed", 'no chat completion: {"status": "ok"}'),
    (200, "<html><title>Welcome</title></html>", "malformed", "the answer is not JSON: <html><title>Welcome"),
    (502, "<html>Bad Gateway</html>", "server_error", "502 <html>Bad Gateway"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "words"), ERRORS)
def test_an_endpoints_own_words_reach_the_failure(
    endpoint: Endpoint, status: int, body: Any, kind: str, words: str
) -> None:
    endpoint.handler = _always(
        lambda _: (
            web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(body, status=status)
        )
    )
    failed = failure(client(endpoint, max_retries=0))
    assert failed.kind == kind
    assert words in failed.detail


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "PROHIBITED_CONTENT", "sensitive"])
@pytest.mark.parametrize("text", [None, "", "half an ans"])
def test_a_filtered_answer_is_none_whatever_it_is_called(endpoint: Endpoint, finish: str, text: str | None) -> None:
    endpoint.handler = _always(lambda _: chat_answer(text, finish))
    assert failure(client(endpoint)).kind == "content_filter"


_CUT = ["length", "LENGTH", "model_length", "max_tokens", "MAX_TOKENS", "FinishReason.MAX_TOKENS", "max-output-tokens",
        "token_limit", "model_context_window_exceeded", "insufficient_system_resource", "abort", "error"]  # fmt: skip


@pytest.mark.parametrize("finish", _CUT)
def test_half_an_answer_is_none_whatever_its_end_is_called(endpoint: Endpoint, finish: str) -> None:
    async def half(*_: Any) -> web.Response:
        return chat_answer("how does a river find its way to the", finish)

    async def query() -> str:
        llm = client(endpoint)
        try:
            return await ask_for_query(llm, QUESTION)
        finally:
            await llm.aclose()

    endpoint.handler = half
    with pytest.raises(UnusableAnswer) as caught:
        asyncio.run(query())
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("finish", ["stop", "STOP", "end_turn", "eos_token", "stop_sequence", "tool_calls", None])
def test_an_answer_that_ended_by_itself_is_whole_whatever_that_is_called(finish: str | None) -> None:
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": finish}]}

    assert read_completion(body).finish_reason == (finish or "unknown")


def test_an_answer_that_ended_in_an_error_is_none(endpoint: Endpoint) -> None:
    choice = {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "upstream died"}}
    endpoint.handler = _always(lambda _: web.json_response({"choices": [choice]}))
    failed = failure(client(endpoint, max_retries=0))
    assert (failed.kind, failed.detail) == ("server_error", "upstream died")


def test_too_many_requests_under_status_200_lower_the_number_in_flight(endpoint: Endpoint) -> None:
    endpoint.handler = _always(lambda _: web.json_response({"error": {"message": "slow down", "code": 429}}))
    llm = client(endpoint, concurrency=16, max_retries=0)

    async def at_once() -> None:
        await asyncio.gather(*(llm.complete(QUESTION) for _ in range(16)), return_exceptions=True)
        await llm.aclose()

    asyncio.run(at_once())
    assert llm.room < 16


def test_a_path_that_is_not_there_ends_the_run_whatever_its_status(endpoint: Endpoint) -> None:
    error = "Unexpected endpoint or method. (POST /chat/completions)"
    endpoint.handler = _always(lambda _: web.json_response({"error": error}))
    (refusal,) = ask(client(endpoint), QUESTION)
    assert isinstance(refusal, EndpointRefusedError)
    assert error in str(refusal)


ANTHROPIC = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"temperature", "top_p"}, ANTHROPIC),
        ({"stop"}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"temperature"}, "`temperature` is deprecated for this model."),
        ({"temperature"}, "invalid temperature: only 1 is allowed for this model"),
        ({"seed"}, "Input should be None: Invalid parameter 'seed'"),
    ],
)
def test_whatever_a_parameter_is_turned_down_for_it_is_left_out(
    endpoint: Endpoint, names: set[str], words: str
) -> None:
    endpoint.handler = _always(
        lambda body: error_answer(400, words) if names <= body.keys() else chat_answer("how rivers flow")
    )
    answers = ask(client(endpoint), *[QUESTION] * 3)
    assert [getattr(answer, "text", answer) for answer in answers] == ["how rivers flow"] * 3
    assert len(endpoint.bodies) == 4
    left_out = endpoint.bodies[0].keys() - endpoint.bodies[-1].keys()
    assert len(left_out) == 1
    assert left_out <= names


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "System role not supported"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (500, "Only user and assistant roles are supported!"),
    ],
)
def test_a_model_without_a_system_role_reads_the_system_message_before_the_users(
    endpoint: Endpoint, status: int, words: str
) -> None:
    refused = error_answer
    endpoint.handler = _always(
        lambda body: refused(status, words) if body["messages"][0]["role"] == "system" else chat_answer("q")
    )
    request = CompletionRequest((Message("system", "You write queries."), Message("user", "A text.")))
    answers = ask(client(endpoint, max_retries=0), request, request)
    assert [getattr(answer, "text", answer) for answer in answers] == ["q", "q"]
    assert len(endpoint.bodies) == 3
    assert endpoint.bodies[-1]["messages"] == [{"role": "user", "content": "You write queries.\n\nA text."}]


def test_thinking_is_switched_off_where_the_endpoint_asks_for_it(endpoint: Endpoint) -> None:
    words = "parameter.enable_thinking must be set to false for non-streaming calls"
    endpoint.handler = _always(
        lambda body: chat_answer("q") if body.get("enable_thinking") is False else error_answer(400, words)
    )
    answers = ask(client(endpoint), QUESTION, QUESTION)
    assert [getattr(answer, "text", answer) for answer in answers] == ["q", "q"]
    assert len(endpoint.bodies) == 3
    wanted = client(endpoint, extra_body={"enable_thinking": True})
    assert failure(wanted).kind == "bad_request"  # what the config says is not taken back


LIMIT = "This model's maximum context length is 1024 tokens"


@pytest.mark.parametrize(
    "words",
    [
        "{limit}. However, you requested {asked} output tokens and your prompt contains at least 400 input tokens",
        "'max_tokens' is too large: {asked}. {limit} and your request has 400 input tokens ({asked} > 1024 - 400).",
        "{limit}. However, you requested {total} tokens (400 in the messages, {asked} in the completion).",
        "{limit}. However, you requested about {total} tokens (400 of text input, {asked} in the output).",
    ],
)
def test_an_answer_gets_the_room_that_its_prompt_leaves(endpoint: Endpoint, words: str) -> None:
    def answer(body: dict[str, Any]) -> web.Response:
        asked = body.get("max_tokens") or body["max_completion_tokens"]
        said = words.format(limit=LIMIT, asked=asked, total=400 + asked)
        return chat_answer("q") if 400 + asked <= 1024 else error_answer(400, said)

    endpoint.handler = _always(answer)
    (answered,) = ask(client(endpoint), CompletionRequest(QUESTION.messages, max_tokens=1000))
    assert isinstance(answered, Completion)
    assert 500 <= (endpoint.bodies[-1].get("max_tokens") or endpoint.bodies[-1]["max_completion_tokens"]) <= 624
    assert len(endpoint.bodies) <= 3


def test_a_prompt_that_leaves_no_room_for_an_answer_is_too_long(endpoint: Endpoint) -> None:
    endpoint.handler = _always(lambda body: error_answer(400, f"{LIMIT}, and your request has 1000 input tokens."))
    assert failure(client(endpoint), CompletionRequest(QUESTION.messages, max_tokens=600)).kind == "too_long"
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "API key not valid. Please pass a valid API key."),
        (400, "Incorrect API key provided: xx"),
    ],
)
def test_a_key_that_is_refused_under_another_status_ends_the_run(endpoint: Endpoint, status: int, words: str) -> None:
    endpoint.handler = _always(lambda body: error_answer(status, words))
    (refused,) = ask(client(endpoint), QUESTION)
    assert isinstance(refused, EndpointRefusedError)
    assert "does not accept the key" in str(refused)
    assert len(endpoint.bodies) == 1


def test_a_passing_failure_does_not_change_what_is_asked(endpoint: Endpoint) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        return error_answer(503, "Loading model") if number == 0 else chat_answer("q")

    endpoint.handler = handle
    ask(client(endpoint), QUESTION)
    assert endpoint.bodies[0] == endpoint.bodies[1]


def test_a_stream_that_nobody_asked_for_is_read(endpoint: Endpoint) -> None:
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "how rivers flow"}, "finish_reason": "stop"}]})
    endpoint.handler = _always(lambda body: web.Response(text=f"data: {event}\n\n", content_type="text/event-stream"))
    (answer,) = ask(client(endpoint), QUESTION)
    assert isinstance(answer, Completion)
    assert (answer.text, len(endpoint.bodies)) == ("how rivers flow", 1)


def test_json_that_the_service_itself_found_broken_is_asked_for_once_more_with_another_seed(
    endpoint: Endpoint,
) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        broken = error_answer(400, "Failed to generate JSON.", code="json_validate_failed", failed_generation='{"q')
        return broken if number == 0 else chat_answer('{"query": "q"}')

    endpoint.handler = handle
    (answer,) = ask(client(endpoint), CompletionRequest(QUESTION.messages, schema=SCHEMA))
    assert isinstance(answer, Completion)
    assert endpoint.bodies[0]["seed"] != endpoint.bodies[1]["seed"]
    assert endpoint.bodies[0]["response_format"] == endpoint.bodies[1]["response_format"]


def _always(make: Any) -> Any:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        answer = make(body)
        assert isinstance(answer, web.StreamResponse)
        return answer

    return handle
