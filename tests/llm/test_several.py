from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from multigrain.config import EndpointConfig, LLMConfig
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError
from multigrain.llm.build import build_client, client_identity, total_concurrency
from multigrain.llm.protocol import CompletionFailure, CompletionRequest, LLMClient, Message
from multigrain.llm.retry import Backoff

from .conftest import Endpoint, Handler, chat_answer, error_answer


@pytest.fixture
def three() -> Iterator[list[Endpoint]]:
    servers = [Endpoint() for _ in range(3)]
    yield servers
    for server in servers:
        server.close()


def build(settings: LLMConfig) -> LLMClient:
    return build_client(settings, seed=1, backoff=Backoff(first_wait=0.01))


def config(servers: list[Endpoint], **settings: Any) -> LLMConfig:
    first, *more = servers
    others = [EndpointConfig(base_url=endpoint.url, model=f"m-{number}") for number, endpoint in enumerate(more)]
    return LLMConfig(
        provider="openai", model="m", base_url=first.url, more_endpoints=others, **{"max_retries": 0, **settings}
    )


def answering(handle: Any) -> Handler:
    async def answer(number: int, body: dict[str, Any], incoming: web.Request) -> web.StreamResponse:
        answer_or_task = handle(body)
        return await answer_or_task if asyncio.iscoroutine(answer_or_task) else answer_or_task

    return answer


async def slowly(seconds: float) -> web.StreamResponse:
    await asyncio.sleep(seconds)
    return chat_answer("ok")


def ask(llm: LLMClient, count: int) -> list[Any]:
    places = asyncio.Semaphore(6)  # as an engine would: no more in work than all endpoints take together

    async def one(number: int) -> Any:
        async with places:
            return await llm.complete(CompletionRequest((Message("user", str(number)),)))

    async def all_of_them() -> list[Any]:
        try:
            return await asyncio.gather(*(one(number) for number in range(count)), return_exceptions=True)
        finally:
            await llm.aclose()

    return asyncio.run(all_of_them())


def test_all_are_used_by_their_own_names_and_share_an_identity(three: list[Endpoint]) -> None:
    settings = config(three, concurrency=2)
    round_of_six = threading.Barrier(6)  # nobody is answered before all places are taken: no chance in who gets what

    async def together() -> web.StreamResponse:
        await asyncio.to_thread(round_of_six.wait, 60)
        return chat_answer("ok")

    for endpoint in three:
        endpoint.handler = answering(lambda body: together())
    llm = build(settings)
    assert llm.identity == client_identity(settings) == "openai:m"
    assert total_concurrency(settings) == 6
    assert {answer.text for answer in ask(llm, 60)} == {"ok"}
    assert [{body["model"] for body in endpoint.bodies} for endpoint in three] == [{"m"}, {"m-0"}, {"m-1"}]
    assert all(len(endpoint.bodies) == 20 for endpoint in three)


def test_a_slow_one_gets_less(three: list[Endpoint]) -> None:
    for endpoint, seconds in zip(three, (0.2, 0.01, 0.01), strict=True):
        endpoint.handler = answering(lambda body, seconds=seconds: slowly(seconds))
    ask(build(config(three, concurrency=2)), 90)
    assert len(three[0].bodies) < len(three[1].bodies) / 2


def test_a_dead_one_and_a_refusing_one_cost_nothing(three: list[Endpoint], caplog: pytest.LogCaptureFixture) -> None:
    three[0].close()
    three[1].handler = answering(lambda body: error_answer(401, "no"))
    answers = ask(build(config(three, concurrency=2)), 30)
    assert {answer.text for answer in answers} == {f"answer to {number}" for number in range(30)}
    assert len(three[1].bodies) <= 6  # no more than were in work when it first refused
    assert caplog.text.count("endpoint left out") >= 2


def test_a_failing_request_is_tried_elsewhere(three: list[Endpoint]) -> None:
    for endpoint in three[:2]:
        endpoint.handler = answering(lambda body: error_answer(500, "boom"))
    assert ask(build(config(three)), 1)[0].text == "answer to 0"
    three[2].handler = answering(lambda body: error_answer(500, "boom"))
    (failure,) = ask(build(config(three)), 1)
    assert isinstance(failure, CompletionFailure)
    three[2].handler = answering(lambda body: error_answer(400, "bad"))
    before = sum(len(endpoint.bodies) for endpoint in three)
    ask(build(config([three[2], *three[:2]])), 1)
    # What is wrong with the request is wrong everywhere.
    assert sum(len(endpoint.bodies) for endpoint in three) == before + 1


def test_the_run_ends_when_none_is_left(three: list[Endpoint]) -> None:
    for endpoint in three:
        endpoint.handler = answering(lambda body: error_answer(403, "no"))
    assert all(isinstance(failure, EndpointRefusedError) for failure in ask(build(config(three)), 3))
    for endpoint in three:
        endpoint.close()
    assert all(isinstance(failure, EndpointUnreachableError) for failure in ask(build(config(three)), 3))
