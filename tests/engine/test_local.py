from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from multigrain.engine.local import LocalEngine
from multigrain.errors import EndpointRefusedError, LLMError
from multigrain.llm.protocol import CompletionFailure


async def double(unit: int) -> int:
    await asyncio.sleep(0.001 * (unit % 3))
    return 2 * unit


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(concurrency=4) as opened:
        yield opened


def test_every_unit_has_one_outcome(engine: LocalEngine) -> None:
    outcomes = list(engine.map(double, range(50)))
    assert sorted((outcome.unit, outcome.value) for outcome in outcomes) == [(unit, 2 * unit) for unit in range(50)]
    assert not any(outcome.failure for outcome in outcomes)
    assert list(engine.map(double, [])) == []


def test_never_more_in_work_than_the_concurrency_and_never_fewer_while_there_is_work(engine: LocalEngine) -> None:
    now = most = 0

    async def work(unit: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1

    list(engine.map(work, range(30)))
    assert most == 4


def test_a_bad_unit_costs_only_itself(engine: LocalEngine, caplog: pytest.LogCaptureFixture) -> None:
    async def work(unit: int) -> int:
        if unit == 3:
            raise CompletionFailure("timeout", "took too long")
        if unit == 5:
            raise KeyError("a bug")
        return unit

    outcomes = {outcome.unit: outcome for outcome in engine.map(work, range(10))}
    assert {unit for unit, outcome in outcomes.items() if outcome.failure is None} == set(range(10)) - {3, 5}
    timeout, bug = outcomes[3].failure, outcomes[5].failure
    assert timeout is not None
    assert (timeout.kind, timeout.detail) == ("timeout", "took too long")
    assert bug is not None
    assert bug.kind == "internal"
    assert "KeyError" in bug.detail
    assert "Traceback" in caplog.text  # our bug keeps its traceback


def test_an_error_that_ends_the_run_comes_after_what_was_in_work(engine: LocalEngine) -> None:
    started: list[int] = []

    async def work(unit: int) -> int:
        started.append(unit)
        if unit == 2:
            raise EndpointRefusedError("401")
        await asyncio.sleep(0.05)
        return unit

    units: list[int] = []
    with pytest.raises(EndpointRefusedError, match="401"):
        units.extend(outcome.unit for outcome in engine.map(work, range(1000)))
    assert sorted(units) == sorted(set(started) - {2})
    assert len(started) <= 8


def test_the_budget_starts_nothing_new_and_finishes_what_it_began(engine: LocalEngine) -> None:
    started: list[int] = []

    async def work(unit: int) -> int:
        started.append(unit)
        await asyncio.sleep(0.1)
        return unit

    begin = time.monotonic()
    outcomes = list(engine.map(work, itertools.count(), budget_seconds=0.25))
    assert time.monotonic() - begin < 5
    assert sorted(outcome.unit for outcome in outcomes) == started
    assert 4 <= len(started) <= 16


def test_stop_is_asked_before_each_unit(engine: LocalEngine) -> None:
    done: list[int] = []

    async def work(unit: int) -> int:
        done.append(unit)
        await asyncio.sleep(0)
        return unit

    list(engine.map(work, itertools.count(), stop=lambda: len(done) >= 20))
    assert 20 <= len(done) <= 24


def test_units_are_pulled_as_they_are_read(engine: LocalEngine) -> None:
    pulled = 0

    def units() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    results = engine.map(double, units())
    for _ in range(5):
        next(results)
    time.sleep(0.2)  # a slow reader
    assert pulled <= 5 + 3 * 4  # read, plus as many waiting and in work as the docs allow
    results.close()  # type: ignore[attr-defined]


def test_leaving_early_cancels_what_is_in_work(engine: LocalEngine) -> None:
    cancelled: list[int] = []

    async def work(unit: int) -> int:
        try:
            await asyncio.sleep(0 if unit == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(unit)
            raise
        return unit

    begin = time.monotonic()
    results = engine.map(work, range(100))
    assert next(results).unit == 0
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begin < 5
    assert cancelled
    assert next(iter(engine.map(double, [1]))).value == 2  # the engine is still good


def test_errors_of_the_units_themselves_are_raised(engine: LocalEngine) -> None:
    def units() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    results = engine.map(double, units())
    assert next(results).value == 2
    with pytest.raises(OSError, match="unreadable"):
        next(results)


def test_run_and_close(engine: LocalEngine) -> None:
    assert engine.run(double(4)) == 8
    engine.close()
    engine.close()
    assert engine.run(double(5)) == 10
    with pytest.raises(LLMError):
        engine.run(_refuse())


async def _refuse() -> None:
    raise LLMError("no")


def test_an_interrupt_ends_the_run_at_once_and_quietly() -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, signal, threading
        from multigrain.engine.local import LocalEngine

        async def work(unit):
            await asyncio.sleep(0 if unit < 3 else 60)
            return unit

        with LocalEngine(concurrency=4) as engine:
            try:
                for outcome in engine.map(work, range(100)):
                    if outcome.unit == 2:
                        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            except KeyboardInterrupt:
                print("interrupted")
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "interrupted\n"
    assert done.stderr == ""
