from __future__ import annotations

import asyncio
import random
import time

import pytest

from multigrain.llm.limiter import AdaptiveLimit
from multigrain.llm.retry import Backoff, retry_after_seconds


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_limit_falls_once_a_round_and_grows_back() -> None:
    clock = Clock()

    async def fly() -> None:
        limit = AdaptiveLimit(10, clock=clock)
        slots = [limit.slot() for _ in range(10)]
        sent = [await slot.__aenter__() for slot in slots]
        clock.now += 1
        for moment in sent:
            limit.pushed_back(moment, None)
        assert limit.current == 7  # one cut for all ten: they were sent before it
        for slot in slots:
            await slot.__aexit__(None, None, None)
        for _ in range(100):
            limit.succeeded()
        assert limit.current == 10

    asyncio.run(fly())


def test_never_below_one_and_never_more_than_allowed() -> None:
    async def fly() -> None:
        limit = AdaptiveLimit(3)
        for _ in range(50):
            async with limit.slot() as sent:
                limit.pushed_back(sent, None)
        assert limit.current == 1
        now = most = 0

        async def one() -> None:
            nonlocal now, most
            async with limit.slot():
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(one() for _ in range(20)))
        assert most == 1

    asyncio.run(fly())


def test_a_pause_holds_everybody() -> None:
    async def fly() -> float:
        limit = AdaptiveLimit(3)
        async with limit.slot() as sent:
            limit.pushed_back(sent, 0.2)
        begin = time.monotonic()
        async with limit.slot():
            return time.monotonic() - begin

    assert 0.15 < asyncio.run(fly()) < 2


def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    async def fly() -> bool:
        limit = AdaptiveLimit(1)

        async def hold(seconds: float) -> bool:
            async with limit.slot():
                await asyncio.sleep(seconds)
            return True

        first = asyncio.create_task(hold(0.01))
        await asyncio.sleep(0)
        second, third = asyncio.create_task(hold(0)), asyncio.create_task(hold(0))
        await first
        second.cancel()  # its turn may have come already
        return await asyncio.wait_for(third, 2)

    assert asyncio.run(fly())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "86400"}, 300.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, now=30.0) == seconds


def test_waits_double_with_jitter_up_to_a_bound() -> None:
    chance = random.Random(0)
    for attempt in range(12):
        longest = min(0.5 * 2**attempt, 30)
        waits = [Backoff().wait_seconds(attempt, chance) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
