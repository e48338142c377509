"""Runs work in this process: one asyncio loop in a thread of its own, read from ordinary code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic

from multigrain.config import LLMConfig
from multigrain.engine.protocol import Compute, Engine, Failure, Outcome, Result, Unit, Value, Work
from multigrain.errors import MultigrainError
from multigrain.llm.build import build_client
from multigrain.llm.protocol import CompletionFailure, LLMClient

_LOG = logging.getLogger(__name__)


class LocalEngine(Engine):
    """Maps an async function over units, so many at a time.

    The loop starts on first use and ends with `close()` or the `with` block. Everything runs on the one loop, so
    a client that is bound to a loop (as HTTP sessions are) serves several `map`s.

    Args:
        concurrency: units in work at once.
        computing: computations at once; one alone may use every core.
    """

    def __init__(self, *, concurrency: int = 8, computing: int = 1) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        self._concurrency = concurrency
        self._computing = computing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"LocalEngine(concurrency={self._concurrency})"

    def map(
        self,
        work: Work[Unit, Value],
        units: Iterable[Unit],
        *,
        budget_seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Outcome[Unit, Value]]:
        """Run work over units; see `Engine.map`.

        Leaving the iteration early (a `break`, an error, Ctrl-C) cancels the units in work; whatever they had
        journaled by then is kept. Memory holds as many units and unread outcomes as the concurrency, twice.

        Raises:
            MultigrainError: the first one that work raised, after the outcomes of all units begun by then.
            Exception: what `units` or `stop` raised.
        """
        return self._map(work, units, self._concurrency, budget_seconds, stop)

    def compute(
        self, work: Compute[Unit, Value], units: Iterable[Unit], *, stop: Callable[[], bool] | None = None
    ) -> Iterator[Outcome[Unit, Value]]:
        """Run a computation over units, in threads; see `Engine.compute`."""

        async def in_thread(unit: Unit) -> Value:
            return await asyncio.to_thread(work, unit)

        return self._map(in_thread, units, self._computing, None, stop)

    def client(self, config: LLMConfig, *, seed: int) -> LLMClient:
        """The client that a config names; see `Engine.client`."""
        return build_client(config, seed=seed)

    def _map(
        self,
        work: Work[Unit, Value],
        units: Iterable[Unit],
        concurrency: int,
        budget_seconds: float | None,
        stop: Callable[[], bool] | None,
    ) -> Iterator[Outcome[Unit, Value]]:
        deadline = None if budget_seconds is None else time.monotonic() + budget_seconds

        def may_start() -> bool:
            return (deadline is None or time.monotonic() < deadline) and not (stop is not None and stop())

        job = _Job(work, iter(units), may_start, concurrency)
        running = self._submit(job.run())
        try:
            yield from job.outcomes()
            running.result()
        finally:
            job.abandon()
            # Cancelled work may still have to settle: a journal's commit, a thread of llama.cpp.
            concurrent.futures.wait([running])

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run one coroutine on the engine's loop and return its result."""
        return self._submit(coroutine).result()

    def close(self) -> None:
        """Stop the loop. Safe to call twice; the engine starts a new loop when it is used again."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _submit(self, coroutine: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="multigrain-loop", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


class _Job(Generic[Unit, Value]):
    """One `map`: workers on the loop, and a queue of outcomes towards the reader that is kept short."""

    def __init__(
        self, work: Work[Unit, Value], units: Iterator[Unit], may_start: Callable[[], bool], concurrency: int
    ) -> None:
        self._work = work
        self._units = units
        self._may_start = may_start
        self._concurrency = concurrency
        # Lists of outcomes: waking the reader for each one by itself would cost more than most units do.
        self._ready: queue.SimpleQueue[list[Outcome[Unit, Value]] | None] = queue.SimpleQueue()
        self._gathered: list[Outcome[Unit, Value]] = []
        self._workers: list[asyncio.Task[None]] = []
        self._room: asyncio.Semaphore
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Work until the units, the time or the patience end. Raises what ended the run early."""
        self._loop = asyncio.get_running_loop()
        # The reader makes room: a slow one slows the work down instead of filling the memory.
        self._room = asyncio.Semaphore(2 * self._concurrency)
        self._workers = [asyncio.create_task(self._work_on()) for _ in range(self._concurrency)]
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._hand_over()
        self._ready.put(None)
        if self._error is not None:
            raise self._error

    def outcomes(self) -> Iterator[Outcome[Unit, Value]]:
        """The outcomes, on the reader's thread."""
        while (outcomes := self._ready.get()) is not None:
            yield from outcomes
            assert self._loop is not None  # noqa: S101 - set before anything is put
            self._loop.call_soon_threadsafe(self._make_room, len(outcomes))

    def abandon(self) -> None:
        """Start nothing more and cancel what is in work. Called on the reader's thread; harmless at the end."""
        self._stopped = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _make_room(self, count: int) -> None:
        for _ in range(count):
            self._room.release()

    def _add(self, outcome: Outcome[Unit, Value]) -> None:
        """Gather what is done in one turn of the loop."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._gathered.append(outcome)

    def _hand_over(self) -> None:
        if self._gathered:
            self._ready.put(self._gathered)
            self._gathered = []

    async def _work_on(self) -> None:
        while True:
            await self._room.acquire()
            try:
                if self._stopped or not self._may_start():
                    break
                unit = next(self._units)
            except StopIteration:
                break
            except Exception as error:
                self._end(error)
                break
            outcome = await self._do(unit)
            if outcome is None:
                break
            self._add(outcome)
        self._room.release()

    async def _do(self, unit: Unit) -> Outcome[Unit, Value] | None:
        try:
            return Outcome(unit, value=await self._work(unit))
        except CompletionFailure as failure:
            return Outcome(unit, failure=Failure(failure.kind, failure.detail, failure))
        except MultigrainError as error:
            self._end(error)
            return None
        except Exception as error:
            _LOG.exception("a unit of work failed with an unexpected error")
            return Outcome(unit, failure=Failure("internal", f"{type(error).__name__}: {error}", error))

    def _end(self, error: Exception) -> None:
        self._stopped = True
        if self._error is None:
            self._error = error
