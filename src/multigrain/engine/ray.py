"""Runs work on the workers of a Ray cluster. The only module that knows Ray.

The process that runs keeps the units, the journal, the limits and the progress; it is the one writer. Workers are
actors: they hold a client of the language model, and compute. A worker that dies with its process or node is replaced
wherever the cluster has room, and what it was doing is given to another. So whatever was in the journal stays, and
whatever a dead worker had in flight is asked again: what the local engine promises when its process is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import ray
from ray import cloudpickle
from ray.exceptions import RayError

from multigrain import errors
from multigrain.config import EngineConfig, LLMConfig
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Compute, Outcome, Unit, Value
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError, EngineError, MultigrainError
from multigrain.llm.build import build_client, client_identity
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient

_LOG = logging.getLogger(__name__)
_ATTEMPTS: Final = 3
_REST_SECONDS: Final = 60.0
_CALLS_A_WORKER: Final = 4_096
_DROP_SECONDS: Final = 15.0
_TOGETHER_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 10.0


class RayEngine(LocalEngine):
    """Sends requests from, and computes on, Ray workers; what waits for them waits in this process.

    Args:
        config: the cluster and its workers.
        concurrency: units that wait at once, over all workers.

    Raises:
        EngineError: the cluster cannot be reached.
    """

    def __init__(self, config: EngineConfig, *, concurrency: int = 8) -> None:
        self._started = _connect(config)
        self.workers = config.workers or _fitting_workers(config)
        self._pool = _Pool(config, self.workers)
        # A worker computes one unit at a time; the next ones wait with it, so that it never waits for them.
        super().__init__(concurrency=concurrency, computing=2 * self.workers)

    def __repr__(self) -> str:
        return f"RayEngine(workers={self.workers})"

    def compute(
        self, work: Compute[Unit, Value], units: Iterable[Unit], *, stop: Callable[[], bool] | None = None
    ) -> Iterator[Outcome[Unit, Value]]:
        """Run a computation over units on the workers; see `Engine.compute`.

        A unit that three workers died over is given up: `worker_died`.
        """
        job = self._pool.job(work)
        alone = asyncio.Lock()

        async def on_worker(unit: Unit) -> Value:
            raw = _pickled(unit)
            with suppress(_WorkerGone):
                first: Value = await self._pool.call("compute", job, raw, attempts=1)
                return first
            # It may be this unit that kills, or one that waited with it: suspects go one at a time.
            async with alone:
                again: Value = await self._pool.call("compute", job, raw, attempts=_ATTEMPTS - 1)
                return again

        return self._map(on_worker, units, self._computing, None, stop)

    def client(self, config: LLMConfig, *, seed: int) -> LLMClient:
        """A client whose requests go out from the workers; see `Engine.client`."""
        return _RayClient(self._pool, config, self.workers, seed)

    def close(self) -> None:
        """Let the workers go, and Ray where it was started here."""
        super().close()
        self._pool.close()
        if self._started:
            ray.shutdown()
            self._started = False


class _RayClient:
    """Asks from the workers. Implements `LLMClient`.

    A worker from which the endpoint cannot be reached rests for a minute, and others are asked; only when it can be
    reached from none does the run end.
    """

    def __init__(self, pool: _Pool, config: LLMConfig, workers: int, seed: int) -> None:
        self._pool = pool
        self._identity = client_identity(config)
        self._job = pool.job(partial(build_client, _share(config, workers), seed=seed))

    @property
    def identity(self) -> str:
        return self._identity

    async def complete(self, request: CompletionRequest) -> Completion:
        tried: set[int] = set()
        while True:
            try:
                completion: Completion = await self._pool.call("complete", self._job, request, tried=tried)
            except (EndpointUnreachableError, EndpointRefusedError):
                if len(tried) >= self._pool.size:
                    raise
                continue
            return completion

    async def aclose(self) -> None:
        await self._pool.drop(self._job)


class _WorkerGone(CompletionFailure):
    """Workers died over a unit."""


@dataclass(eq=False)
class _Seat:
    """A worker, and what is known of it here."""

    number: int
    actor: Any
    in_flight: int = 0
    resting_until: float = 0.0
    jobs: dict[int, asyncio.Future[Any]] = field(default_factory=dict)


class _Pool:
    """The workers: chosen by how little they have to do, replaced when they die."""

    def __init__(self, config: EngineConfig, size: int) -> None:
        self.size = size
        self._config = config
        self._numbers = itertools.count()
        self._jobs: dict[int, bytes] = {}
        self._first_calls: dict[int, float] = {}  # when a job was first asked for
        self._seats: list[_Seat] = [self._hire() for _ in range(size)]

    def job(self, work: Any) -> int:
        """Register something that workers are to hold: a function, or what makes a client."""
        number = next(self._numbers)
        self._jobs[number] = _pickled(work)
        return number

    async def drop(self, job: int) -> None:
        """Let workers let go of a job; one that never came up, or does not answer, is not waited for."""
        self._jobs.pop(job, None)
        self._first_calls.pop(job, None)
        for seat in self._seats:
            if job in seat.jobs and seat.jobs[job].done():
                with suppress(RayError, TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(seat.actor.drop.remote(job).future()), _DROP_SECONDS)

    async def call(
        self, method: str, job: int, payload: Any, *, tried: set[int] | None = None, attempts: int = _ATTEMPTS
    ) -> Any:
        """Have a worker do something; another one does it where that one dies.

        Args:
            method: of the worker.
            job: what with.
            payload: what on.
            tried: workers that are not asked again; the one that is asked is added.
            attempts: workers that may die over it.
        """
        for _ in range(attempts):
            seat = await self._freest(job, tried or set())
            if tried is not None:
                tried.add(seat.number)
            seat.in_flight += 1
            try:
                answer = await self._answer(getattr(seat.actor, method).remote(job, payload))
            except RayError as error:
                self._replace(seat, error)
                if tried is not None:
                    tried.discard(seat.number)
                continue
            finally:
                seat.in_flight -= 1
            try:
                return _opened(answer)
            except EndpointUnreachableError as error:
                self._rest(seat, _REST_SECONDS, error)
                raise
            except EndpointRefusedError as error:
                self._rest(seat, float("inf"), error)
                raise
        raise _WorkerGone("worker_died", f"{attempts} workers died, one after another, over this unit")

    def close(self) -> None:
        """Let every worker go."""
        for seat in self._seats:
            with suppress(RayError):
                ray.kill(seat.actor)
        self._seats = []

    async def _answer(self, reference: Any) -> Any:
        try:
            return await asyncio.wrap_future(reference.future())
        except asyncio.CancelledError:
            with suppress(RayError):
                ray.cancel(reference)
            raise

    async def _freest(self, job: int, tried: set[int]) -> _Seat:
        """The worker with least to do among those that hold the job; waits where none does yet.

        A worker that the cluster has no room for keeps nobody waiting while there is another, but for a job's first
        moment: were the first worker that holds it given all that is asked at once, most would wait for their turn.
        """
        deadline = time.monotonic() + self._config.start_seconds
        together = self._first_calls.setdefault(job, time.monotonic()) + _TOGETHER_SECONDS
        while True:
            for seat in self._seats:
                if job not in seat.jobs:
                    start = seat.actor.hold.remote(job, self._jobs[job]).future()
                    seat.jobs[job] = asyncio.ensure_future(asyncio.wrap_future(start))
            for seat in [seat for seat in self._seats if seat.jobs[job].done()]:
                self._look_after(seat, job)
            up = [seat for seat in self._seats if job in seat.jobs and seat.jobs[job].done()]
            untried = [seat for seat in up if seat.number not in tried] or up
            awake = [seat for seat in untried if seat.resting_until <= time.monotonic()]
            missing = [seat.jobs[job] for seat in self._seats if job in seat.jobs and not seat.jobs[job].done()]
            if untried and missing and (moment := together - time.monotonic()) > 0:
                await asyncio.wait(missing, timeout=moment)
                continue
            if untried:
                return min(awake or untried, key=lambda seat: seat.in_flight)
            if time.monotonic() > deadline:
                raise EngineError(
                    f"engine: no worker could be started within {self._config.start_seconds:g} s: the cluster has no "
                    f"{self._config.cpus_per_worker:g} CPUs and {self._config.gpus_per_worker:g} GPUs free; add "
                    "nodes, or lower engine.workers, engine.cpus_per_worker or engine.gpus_per_worker"
                )
            waiting = [seat.jobs[job] for seat in self._seats if job in seat.jobs]
            await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)

    def _look_after(self, seat: _Seat, job: int) -> None:
        """Replace a worker that died before it held the job; raise what it could not do."""
        error = seat.jobs[job].exception()
        if isinstance(error, RayError):
            self._replace(seat, error)
        elif error is not None:
            raise error
        else:
            _opened(seat.jobs[job].result())

    def _replace(self, seat: _Seat, error: Exception) -> None:
        if seat not in self._seats:
            return
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _LOG.warning("worker %d is gone (%s); another takes its place", seat.number, reason)
        with suppress(RayError):
            ray.kill(seat.actor)
        self._seats[self._seats.index(seat)] = self._hire()

    def _rest(self, seat: _Seat, seconds: float, error: Exception) -> None:
        if seat.resting_until < time.monotonic():
            _LOG.warning("worker %d left out: %s", seat.number, error)
        seat.resting_until = time.monotonic() + seconds

    def _hire(self) -> _Seat:
        actor = ray.remote(_Worker).options(
            num_cpus=self._config.cpus_per_worker,
            num_gpus=self._config.gpus_per_worker,
            max_concurrency=_CALLS_A_WORKER,
            max_restarts=0,  # the pool replaces it: a restarted actor would have forgotten its jobs
            scheduling_strategy="SPREAD",
        )
        return _Seat(next(self._numbers), actor.remote())


class _Worker:
    """What runs on a node. Answers are tagged values: exceptions with arguments of their own do not pickle."""

    def __init__(self) -> None:
        self._work: dict[int, Any] = {}
        self._clients: dict[int, LLMClient] = {}
        self._computing = asyncio.Semaphore(1)

    async def hold(self, job: int, work: bytes) -> tuple[Any, ...]:
        """Take a job."""
        try:
            self._work[job] = pickle.loads(work)  # noqa: S301 - from the driver of this cluster
        except Exception as error:
            return _closed(error)
        return ("value", None)

    async def complete(self, job: int, request: CompletionRequest) -> tuple[Any, ...]:
        """Ask the language model."""
        try:
            if job not in self._clients:
                self._clients[job] = self._work[job]()
            return ("value", await self._clients[job].complete(request))
        except Exception as error:
            return _closed(error)

    async def compute(self, job: int, unit: bytes) -> tuple[Any, ...]:
        """Compute, one unit at a time."""
        async with self._computing:
            try:
                value = await asyncio.to_thread(self._work[job], pickle.loads(unit))  # noqa: S301 - see `hold`
                return ("pickled", _pickled(value))
            except Exception as error:
                return _closed(error)

    async def drop(self, job: int) -> None:
        """Let go of a job."""
        self._work.pop(job, None)
        client = self._clients.pop(job, None)
        if client is not None:
            await client.aclose()


def _closed(error: Exception) -> tuple[Any, ...]:
    """An exception as plain values."""
    if isinstance(error, CompletionFailure):
        return ("failure", error.kind, error.detail)
    if isinstance(error, MultigrainError):
        return ("error", type(error).__name__, str(error))
    _LOG.exception("a unit of work failed with an unexpected error")
    return ("internal", type(error).__name__, str(error))


def _opened(answer: tuple[Any, ...]) -> Any:
    """What `_Worker` answered: a value, or the exception raised again.

    Raises:
        CompletionFailure, MultigrainError: as the worker raised it.
    """
    tag, *rest = answer
    if tag == "value":
        return rest[0]
    if tag == "pickled":
        return pickle.loads(rest[0])  # noqa: S301 - from a worker of this cluster
    if tag == "failure":
        raise CompletionFailure(*rest)
    name, words = rest
    if tag == "error":
        raised = MultigrainError.__new__(getattr(errors, name, EngineError))
        Exception.__init__(raised, words)
        raise raised
    raise CompletionFailure("internal", f"{name}: {words}")


def _pickled(value: Any) -> bytes:
    raw: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return raw


def _share(config: LLMConfig, workers: int) -> LLMConfig:
    """A worker's share of the requests in flight, so that all workers together keep to the config."""
    parts: dict[str, Any] = {"concurrency": -(-config.concurrency // workers)}
    parts["more_endpoints"] = [
        endpoint.model_copy(update={"concurrency": -(-endpoint.concurrency // workers)})
        if endpoint.concurrency
        else endpoint
        for endpoint in config.more_endpoints
    ]
    return config.model_copy(update=parts)


def _connect(config: EngineConfig) -> bool:
    """Join or start Ray; says whether it was not running in this process before."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "configure_logging": False}
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": config.object_store_mb * 2**20,
        }
        if config.workers is not None:
            options["num_cpus"] = max(1, -(-int(config.workers * config.cpus_per_worker) // 1))
    else:
        options["address"] = address
    try:
        _check_answers(address)
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(f"engine.address {address!r}: no Ray cluster could be joined there ({reason})") from None
    return True


def _check_answers(address: str | None) -> None:
    """See whether anybody listens where a cluster should be: Ray itself waits for minutes before it says so.

    Args:
        address: HOST:PORT, ray://HOST:PORT; or what Ray alone can find ("auto", None), which is not looked for.

    Raises:
        ConnectionError: nobody does.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConnectionError(f"nothing answers: {reason}") from None


def _fitting_workers(config: EngineConfig) -> int:
    if config.gpus_per_worker:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(1, int(resources.get("GPU", 0) // config.gpus_per_worker))
    return max(1, sum(node["Alive"] for node in ray.nodes()))  # type: ignore[no-untyped-call]
