from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from multigrain.config import LLMConfig
from multigrain.errors import ConfigError, EndpointRefusedError, EndpointUnreachableError
from multigrain.llm.build import build_client, client_identity
from multigrain.llm.endpoint import find_endpoint
from multigrain.llm.openai_compatible import OpenAICompatibleLLM
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient, Message
from multigrain.llm.retry import Backoff
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient

from .conftest import Endpoint, Handler, chat_answer, error_answer

KEY = "sk-secret-7f3a9b"
SCHEMA = {"type": "object", "properties": {"query": {"type": "string", "pattern": ".+"}}, "required": ["query"]}


@pytest.fixture(autouse=True)
def api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


QUICK = Backoff(first_wait=0.01, longest_wait=0.02)


def client(endpoint: Endpoint, **settings: Any) -> OpenAICompatibleLLM:
    return OpenAICompatibleLLM(at(endpoint.url, **settings), backoff=QUICK)


def at(url: str, **settings: Any) -> LLMConfig:
    return LLMConfig(provider="openai", model="m", base_url=url, **settings)


def request(text: str = "hello", **settings: Any) -> CompletionRequest:
    return CompletionRequest((Message("user", text),), **settings)


def run(llm: LLMClient, *requests: CompletionRequest) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        try:
            return await asyncio.gather(*(llm.complete(request) for request in requests))
        finally:
            await llm.aclose()

    return asyncio.run(all_of_them())


def sequence(*answers: web.StreamResponse | Coroutine[Any, Any, Any]) -> Handler:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        answer = answers[min(number, len(answers) - 1)]
        return answer if isinstance(answer, web.StreamResponse) else await answer

    return handle


def always(make: Any) -> Handler:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        answer = make()
        return await answer if asyncio.iscoroutine(answer) else answer

    return handle


def test_the_wire(endpoint: Endpoint) -> None:
    question = request("hi", schema=SCHEMA, temperature=0.5, top_p=0.7, max_tokens=33, seed=4, stop=("\n",))
    (answer,) = run(client(endpoint), question)
    assert endpoint.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "top_p": 0.7,
            "max_tokens": 33,
            "seed": 4,
            "stop": ["\n"],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            },
        }
    ]
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert (answer.text, answer.finish_reason, answer.model) == ("answer to hi", "stop", "served")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens) == (11, 5, 3)


def test_a_repeated_prefill_is_taken_off(endpoint: Endpoint) -> None:
    endpoint.handler = always(lambda: chat_answer("Once upon a time"))
    question = CompletionRequest((Message("user", "Tell."), Message("assistant", "Once upon")))
    assert run(client(endpoint), question)[0].text == " a time"
    endpoint.handler = always(lambda: chat_answer(" a time"))
    assert run(client(endpoint), question)[0].text == " a time"


async def hang() -> web.StreamResponse:
    await asyncio.sleep(30)
    return chat_answer("too late")


def reset(incoming: web.Request) -> None:
    assert incoming.transport is not None
    incoming.transport.abort()


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_passing_statuses_are_asked_again(endpoint: Endpoint, status: int) -> None:
    endpoint.handler = sequence(error_answer(status, "later"), error_answer(status, "later"), chat_answer("now"))
    assert run(client(endpoint), request())[0].text == "now"
    assert len(endpoint.bodies) == 3


def test_hangs_and_resets_are_asked_again(endpoint: Endpoint) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        if number == 0:
            return await hang()
        if number == 1:
            reset(incoming)
        if number == 2:
            half = web.StreamResponse(headers={"Content-Length": "1000"})
            await half.prepare(incoming)
            await half.write(b'{"choices": [')
            reset(incoming)
        return chat_answer("now")

    endpoint.handler = handle
    assert run(client(endpoint, timeout_seconds=0.3), request())[0].text == "now"
    assert len(endpoint.bodies) == 4


@pytest.mark.parametrize(
    ("make", "kind", "attempts"),
    [
        (lambda: error_answer(500, "boom"), "server_error", 3),
        (lambda: error_answer(429, "slow down"), "rate_limited", 12),
        (hang, "timeout", 3),
        (lambda: web.Response(text="<html>a proxy</html>"), "malformed", 2),
        (lambda: web.json_response({"choices": []}), "malformed", 2),
        (lambda: web.json_response([1]), "malformed", 2),
        (lambda: web.json_response({"choices": [{"message": {"content": 7}}]}), "malformed", 2),
        (lambda: web.json_response({"error": {"message": "upstream", "code": 502}}), "server_error", 3),
        (lambda: chat_answer(None, "content_filter"), "content_filter", 1),
        (lambda: error_answer(400, "blocked", code="content_filter"), "content_filter", 1),
        (lambda: error_answer(400, "maximum context length is 8"), "too_long", 1),
        (lambda: error_answer(422, "no"), "bad_request", 1),
    ],
)
def test_what_keeps_failing_has_a_kind(endpoint: Endpoint, make: Any, kind: str, attempts: int) -> None:
    endpoint.handler = always(make)
    with pytest.raises(CompletionFailure) as caught:
        run(client(endpoint, max_retries=2, timeout_seconds=0.3), request())
    assert caught.value.kind == kind
    assert len(endpoint.bodies) == attempts


def test_null_content_is_an_empty_answer(endpoint: Endpoint) -> None:
    endpoint.handler = always(lambda: chat_answer(None))
    assert run(client(endpoint), request())[0].text == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error_answer(401, "bad key"), r"answers 401: it does not accept the key.*OPENAI_API_KEY"),
        (error_answer(403, "no"), "answers 403"),
        (error_answer(404, "no such model"), "no model 'm' .*no such model"),
        (error_answer(402, "pay"), "credit"),
        (error_answer(429, "quota", code="insufficient_quota"), "credit"),
        (web.Response(status=301, headers={"Location": "/elsewhere"}), "redirects"),
    ],
)
def test_refusals_end_the_run_at_once(endpoint: Endpoint, answer: web.Response, words: str) -> None:
    endpoint.handler = sequence(answer)
    with pytest.raises(EndpointRefusedError, match=words) as caught:
        run(client(endpoint), request())
    assert endpoint.url in str(caught.value)
    assert len(endpoint.bodies) == 1


def test_nothing_at_the_address(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.close()
    with pytest.raises(EndpointUnreachableError, match=r"nothing answers.*Connection refused"):
        run(client(endpoint, max_retries=1), request())
    warning = f"no answer from {endpoint.url} (Connection refused); trying again, 1 of 1"
    assert [record.message for record in caplog.records if "no answer" in record.message] == [warning]
    unknown = OpenAICompatibleLLM(at("http://no-such-host.invalid/v1", api_key_env="X", max_retries=0))
    with pytest.raises(EndpointUnreachableError, match=r"nothing answers \(no such host\).*multigrain doctor CONFIG"):
        run(unknown, request())


def test_an_endpoint_where_nothing_succeeds_ends_the_run(endpoint: Endpoint) -> None:
    endpoint.handler = always(lambda: error_answer(500, "broken"))

    async def keep_asking() -> tuple[int, str]:
        llm = client(endpoint, max_retries=0, concurrency=4)
        try:
            for number in range(1000):
                try:
                    await llm.complete(request())
                except CompletionFailure:
                    continue
                except EndpointUnreachableError as error:
                    return number, str(error)
            return -1, ""
        finally:
            await llm.aclose()

    number, message = asyncio.run(keep_asking())
    assert number == 49
    assert "50 server_error" in message


def test_it_waits_as_long_as_the_endpoint_asks(endpoint: Endpoint) -> None:
    endpoint.handler = sequence(error_answer(429, "later", {"Retry-After": "0.4"}), chat_answer("now"))
    begin = time.monotonic()
    run(client(endpoint), request())
    assert 0.4 <= time.monotonic() - begin < 3


def test_concurrency_adapts_to_a_busy_endpoint(endpoint: Endpoint) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        if endpoint.in_flight > 4:
            return error_answer(429, "too many", {"Retry-After": "0.02"})
        await asyncio.sleep(0.01)
        return chat_answer("ok")

    endpoint.handler = handle
    answers = run(client(endpoint, concurrency=32), *(request(str(number)) for number in range(200)))
    assert len(answers) == 200
    refused = len(endpoint.bodies) - 200
    assert refused < 200  # a client that kept 32 in flight would be refused nearly always


def test_never_more_in_flight_than_the_concurrency(endpoint: Endpoint) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return chat_answer("ok")

    endpoint.handler = handle
    run(client(endpoint, concurrency=6), *(request(str(number)) for number in range(60)))
    assert endpoint.most_in_flight == 6


def test_least_lengths_are_not_sent_since_servers_then_write_no_quotes(endpoint: Endpoint) -> None:
    endpoint.handler = sequence(chat_answer('{"minLength": "q"}'))
    fields = {"minLength": {"type": "string", "minLength": 1, "maxLength": 9}}
    run(client(endpoint), request(schema={"type": "object", "properties": fields}))

    sent = endpoint.bodies[0]["response_format"]["json_schema"]["schema"]
    assert sent["properties"] == {"minLength": {"type": "string", "maxLength": 9}}


@pytest.mark.parametrize("understood", ["json_schema without limits", "json_object", "nothing"])
def test_a_response_format_that_is_turned_down_is_put_another_way(endpoint: Endpoint, understood: str) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        form = body.get("response_format")
        limited = "pattern" in str(form)
        kind = (form or {}).get("type")
        if form is None or (understood == "json_object" and kind == "json_object"):
            return chat_answer('{"query": "q"}')
        if understood == "json_schema without limits" and kind == "json_schema" and not limited:
            return chat_answer('{"query": "q"}')
        return error_answer(400, "Invalid parameter", param="response_format")

    endpoint.handler = handle
    llm = client(endpoint)
    questions = [request(str(number), schema=SCHEMA) for number in range(5)]
    assert {answer.text for answer in run(llm, *questions)} == {'{"query": "q"}'}
    before = len(endpoint.bodies)
    run(llm, *questions)
    assert len(endpoint.bodies) == before + 5  # learnt once
    in_prompt = "JSON schema" in endpoint.bodies[-1]["messages"][-1]["content"]
    assert in_prompt == (understood != "json_schema without limits")


def test_parameters_that_are_turned_down_are_left_out(endpoint: Endpoint) -> None:
    async def handle(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        if "max_tokens" in body:
            return error_answer(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        for name in ("temperature", "seed"):
            if name in body:
                return error_answer(400, f"'{name}' is not supported with this model.")
        return chat_answer("ok")

    endpoint.handler = handle
    assert run(client(endpoint), request(max_tokens=9))[0].text == "ok"
    assert endpoint.bodies[-1]["max_completion_tokens"] == 9
    assert "seed" not in endpoint.bodies[-1]


def test_an_endpoint_that_ignores_the_schema_gets_it_in_the_prompt(endpoint: Endpoint) -> None:
    endpoint.handler = sequence(chat_answer("What a fine schema."), chat_answer('{"query": "q"}'))

    async def twice() -> None:
        llm = client(endpoint)
        await llm.complete(request(schema=SCHEMA))
        await llm.complete(request(schema=SCHEMA))
        await llm.aclose()

    asyncio.run(twice())
    first, second = (body["messages"][-1]["content"] for body in endpoint.bodies)
    assert "JSON schema" not in first
    assert "JSON schema" in second


def test_unstructured_by_config(endpoint: Endpoint) -> None:
    config = LLMConfig(provider="openai", model="m", base_url=endpoint.url, structured_output=False)
    run(build_client(config, seed=1, backoff=QUICK), request(schema=SCHEMA))
    assert "response_format" not in endpoint.bodies[0]
    assert "JSON schema" in endpoint.bodies[0]["messages"][-1]["content"]


def test_the_key_shows_nowhere(endpoint: Endpoint, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    address = endpoint.url.replace("http://", "http://someone:hunter22@") + "?token=tok-12345"
    shown = find_endpoint(address, "OPENAI_API_KEY")
    complaint = f"bad header: Bearer {KEY} hunter22 token=tok-12345"
    texts = [repr(shown), shown.url]
    for status in (400, 401, 404, 500, 200):
        endpoint.handler = always(lambda status=status: error_answer(status, complaint))
        llm = OpenAICompatibleLLM(at(address, max_retries=0))
        texts += [repr(llm), llm.identity]
        with pytest.raises((CompletionFailure, EndpointRefusedError)) as caught:
            run(llm, request())
        texts.append(str(caught.value))
        with Journal(tmp_path / "journal.sqlite") as journal:
            with contextlib.suppress(CompletionFailure, EndpointRefusedError):
                run(JournaledClient(llm, journal, strategy="mgh"), request())
            texts.append(repr(journal.totals()))
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert "mgh" in texts[-1]  # failures were written
    # The test's own server logs the addresses that it is asked at; a server must be told the secret.
    logged = [caplog.handler.format(record) for record in caplog.records if record.name != "aiohttp.access"]
    for secret in (KEY, "hunter22", "tok-12345"):
        assert secret not in "\n".join([*texts, *logged])


def test_addresses_and_keys_by_the_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://from-environment:1/v1/")
    assert find_endpoint(None, "OPENAI_API_KEY").url == "http://from-environment:1/v1"
    assert find_endpoint("http://given:2/v1", "OPENAI_API_KEY").url == "http://given:2/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert find_endpoint(None, "OPENAI_API_KEY").url == "https://api.openai.com/v1"
    with pytest.raises(ConfigError, match="set the environment variable OTHER_KEY"):
        find_endpoint(None, "OTHER_KEY")
    assert "Authorization" not in find_endpoint("http://localhost:8000/v1", "OTHER_KEY").headers
    monkeypatch.setenv("OTHER_KEY", "two words")
    with pytest.raises(ConfigError, match="OTHER_KEY holds no key") as caught:
        find_endpoint("http://localhost:8000/v1", "OTHER_KEY")
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost:8000/v1", "ftp://x/v1", "http://", "http://[::1/v1", "nonsense"])
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(ConfigError, match="expected an address like"):
        find_endpoint(address, "OPENAI_API_KEY")


def test_extra_keys_go_with_every_request_and_make_it_another_model(endpoint: Endpoint) -> None:
    extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    config = LLMConfig(provider="openai", model="m", base_url=endpoint.url)
    extended = config.model_copy(update={"extra_body": extra})

    run(build_client(config, seed=1, backoff=QUICK), request(schema=SCHEMA))
    run(build_client(extended, seed=1, backoff=QUICK), request(schema=SCHEMA))

    assert endpoint.bodies[1] == endpoint.bodies[0] | extra
    assert client_identity(config) == "openai:m"
    assert client_identity(extended) == build_client(extended, seed=1, backoff=QUICK).identity != "openai:m"
    turned = config.model_copy(update={"extra_body": dict(reversed(extra.items()))})
    assert client_identity(turned) == client_identity(extended)  # the order of keys means nothing


def test_extra_headers_replace_our_own_and_their_secrets_show_nowhere(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "gw-secret-1234")
    headers = {"authorization": "env:GATEWAY_KEY", "X-Team": "search"}
    config = LLMConfig(provider="openai", model="m", base_url=endpoint.url, extra_headers=headers, max_retries=0)
    assert client_identity(config) == "openai:m"
    run(build_client(config, seed=1, backoff=QUICK), request())
    sent = {name.lower(): value for name, value in endpoint.headers[0].items()}
    assert (sent["authorization"], sent["x-team"]) == ("gw-secret-1234", "search")

    endpoint.handler = always(lambda: error_answer(422, "wrong team gw-secret-1234"))
    with pytest.raises(CompletionFailure) as caught:
        run(build_client(config, seed=1, backoff=QUICK), request())
    assert str(caught.value) == "bad_request: 422 wrong team [key]"
    endpoint.handler = always(lambda: error_answer(401, "no"))
    with pytest.raises(EndpointRefusedError, match="environment variable OPENAI_API_KEY or GATEWAY_KEY"):
        run(build_client(config, seed=1, backoff=QUICK), request())
    monkeypatch.delenv("GATEWAY_KEY")
    with pytest.raises(
        ConfigError, match=r"llm.extra_headers.authorization: set the environment variable GATEWAY_KEY"
    ):
        build_client(config, seed=1, backoff=QUICK)


def test_an_endpoint_may_have_headers_of_its_own(endpoint: Endpoint) -> None:
    members = [{"base_url": endpoint.url}, {"base_url": endpoint.url, "extra_headers": {"X-Team": "other"}}]
    config = LLMConfig.model_validate(
        {
            "provider": "openai",
            "model": "m",
            "base_url": endpoint.url,
            "extra_headers": {"X-Team": "search"},
            "more_endpoints": members,
            "concurrency": 1,
        }
    )
    run(build_client(config, seed=1, backoff=QUICK), *(request(str(number)) for number in range(3)))
    assert sorted(sent["X-Team"] for sent in endpoint.headers) == ["other", "search", "search"]


def test_a_query_string_goes_with_every_request_and_is_not_shown(endpoint: Endpoint) -> None:
    paths: list[str] = []

    async def handle(number: int, body: dict[str, Any], asked_for: web.Request) -> web.StreamResponse:
        paths.append(asked_for.path_qs)
        return error_answer(422, "sig a+b/c== is wrong") if number else chat_answer("ok")

    endpoint.handler = handle
    query = "api-version=2024-06-01&sig=a%2Bb%2Fc%3D%3D"
    llm = OpenAICompatibleLLM(at(f"{endpoint.url}/?{query}"))
    run(llm, request())
    assert paths[0].startswith("/v1/chat/completions?")
    assert dict(URL(paths[0]).query) == {"api-version": "2024-06-01", "sig": "a+b/c=="}
    with pytest.raises(CompletionFailure) as caught:
        run(llm, request())
    assert str(caught.value) == "bad_request: 422 sig [key] is wrong"
    assert "?" not in repr(llm)
