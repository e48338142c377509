"""What every engine promises. The works are closures: they are sent to other processes, and leave marks in files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from multigrain.config import LLMConfig
from multigrain.engine.protocol import Engine
from multigrain.errors import EndpointRefusedError, SourceError
from multigrain.llm.protocol import CompletionFailure, CompletionRequest, Message
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient


def every_unit_has_one_outcome(engine: Engine, folder: Path) -> None:
    async def double(unit: int) -> int:
        return 2 * unit

    def triple(unit: int) -> int:
        return 3 * unit

    for outcomes, factor in ((engine.map(double, range(40)), 2), (engine.compute(triple, range(40)), 3)):
        assert sorted((outcome.unit, outcome.value, outcome.failure) for outcome in outcomes) == [
            (unit, factor * unit, None) for unit in range(40)
        ]
    assert list(engine.compute(triple, [])) == []


def a_bad_unit_costs_only_itself(engine: Engine, folder: Path) -> None:
    def work(unit: int) -> int:
        if unit == 3:
            raise CompletionFailure("timeout", "took too long")
        if unit == 5:
            raise KeyError("a bug")
        return unit

    outcomes = {outcome.unit: outcome for outcome in engine.compute(work, range(10))}

    assert {unit for unit, outcome in outcomes.items() if outcome.failure is None} == set(range(10)) - {3, 5}
    timeout, bug = outcomes[3].failure, outcomes[5].failure
    assert timeout is not None
    assert bug is not None
    assert (timeout.kind, timeout.detail) == ("timeout", "took too long")
    assert bug.kind == "internal"
    assert "KeyError" in bug.detail


def an_error_that_ends_the_run_comes_after_what_was_in_work(engine: Engine, folder: Path) -> None:
    def work(unit: int) -> int:
        (folder / f"began-{unit}").touch()
        if unit == 2:
            raise SourceError("unreadable")
        return unit

    units = []
    with pytest.raises(SourceError, match="unreadable"):
        units.extend(outcome.unit for outcome in engine.compute(work, range(10_000)))
    began = {int(path.name[6:]) for path in folder.glob("began-*")}
    assert set(units) == began - {2}
    assert len(began) < 1_000


def units_are_pulled_as_they_are_read(engine: Engine, folder: Path) -> None:
    pulled = 0

    def units() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    results = engine.compute(lambda unit: unit, units())
    for _ in range(5):
        next(results)
    time.sleep(0.3)  # a slow reader
    assert pulled <= 5 + 3 * 4  # two workers, two units with each, as many done and unread, twice
    results.close()  # type: ignore[attr-defined]


def stop_starts_nothing_more(engine: Engine, folder: Path) -> None:
    units: list[int] = []
    for outcome in engine.compute(lambda unit: unit, itertools.count(), stop=lambda: len(units) >= 10):
        units.append(outcome.unit)  # noqa: PERF401 - `stop` looks at it
    assert 10 <= len(units) <= 30


def errors_of_the_units_themselves_are_raised(engine: Engine, folder: Path) -> None:
    def units() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        list(engine.compute(lambda unit: unit, units()))


def completions_are_in_the_journal_before_they_count_and_are_asked_once(engine: Engine, folder: Path) -> None:
    config = LLMConfig(provider="scripted", concurrency=4)
    requests = [CompletionRequest((Message("user", f"[unit {n % 15}] tell me more about it"),)) for n in range(30)]
    with Journal(folder / "journal.sqlite") as journal:
        for sent in (15, 0):
            client = JournaledClient(engine.client(config, seed=0), journal, strategy="test")

            async def ask(number: int, client: JournaledClient = client) -> str:
                text = (await client.complete(requests[number])).text
                assert any(entry.completion.text == text for entry in journal.entries())
                return text

            texts = {outcome.unit: outcome.value for outcome in engine.map(ask, range(30))}
            assert all(texts[n] == texts[n + 15] and texts[n] for n in range(15))
            assert client.asked == sent
            assert journal.totals().completions == 15
            engine.run(client.aclose())


def an_endpoint_that_nobody_can_reach_ends_the_run(engine: Engine, folder: Path) -> None:
    config = LLMConfig(provider="openai", model="m", base_url="http://127.0.0.1:9/v1", max_retries=0, concurrency=2)
    client = engine.client(config, seed=0)
    request = CompletionRequest((Message("user", "hello"),))

    async def ask(_: int) -> str:
        return (await client.complete(request)).text

    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        list(engine.map(ask, range(4)))
    assert type(caught.value).__name__ == "EndpointUnreachableError"
    assert not isinstance(caught.value, EndpointRefusedError)
    engine.run(client.aclose())


CONTRACT: list[Callable[[Engine, Path], None]] = [
    every_unit_has_one_outcome,
    a_bad_unit_costs_only_itself,
    an_error_that_ends_the_run_comes_after_what_was_in_work,
    units_are_pulled_as_they_are_read,
    stop_starts_nothing_more,
    errors_of_the_units_themselves_are_raised,
    completions_are_in_the_journal_before_they_count_and_are_asked_once,
    an_endpoint_that_nobody_can_reach_ends_the_run,
]
