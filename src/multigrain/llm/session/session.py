"""A paid session: one model, asked for several purposes, out of one budget, every answer kept in a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from multigrain.config import Config, LLMConfig, PriceConfig
from multigrain.errors import EndpointUnreachableError, LLMError
from multigrain.llm.prices import find_price
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient
from multigrain.llm.session.budget import Budget, Reservation, require_price, run_budget
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalEntry, key_of, now, request_json, storable
from multigrain.llm.session.usage import JournalUsage
from multigrain.storage.rundir import RunDirectory

Result = TypeVar("Result")


class Host(Protocol):
    """Where a session's model is asked from: the part of an engine that a session needs."""

    def client(self, config: LLMConfig, *, seed: int) -> LLMClient:
        """The model that a config names."""
        ...

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run one coroutine where the model is asked, and return its result."""
        ...


@dataclass(frozen=True)
class PaidSession:
    """One model of a run, open to be asked.

    Attributes:
        model: who is asked.
        price: of the model; None where it is unknown.
        journal: where its answers are kept.
        budget: the run's.
    """

    model: LLMClient
    price: PriceConfig | None
    journal: Journal
    budget: Budget

    def client(self, purpose: str) -> JournaledClient:
        """The model for one purpose: requests that do not say who asks are kept under it.

        Args:
            purpose: a strategy's name, "judge", …; answers are not shared between purposes.
        """
        return JournaledClient(self.model, self.journal, strategy=purpose, budget=self.budget, price=self.price)

    def usage(self) -> JournalUsage:
        """What the session's journal adds up to, all sessions together."""
        return JournalUsage(self.journal.path, self.journal.totals(), self.price)


@contextmanager
def paid_session(
    config: Config, run: RunDirectory, engine: Host, *, heldout_model: LLMConfig | None = None
) -> Iterator[PaidSession]:
    """Open a run's journal, its budget and its model, and close them at the end.

    One session at a time: purposes that are asked side by side share one, and so its budget.

    Args:
        config: the run's.
        run: keeps the answers.
        engine: where the model is asked; closed by whoever opened it.
        heldout_model: another model, for the held-out queries, with a journal and a price of its own; None: the
            run's model.

    Raises:
        ConfigError: there is a limit on the cost, and the price of a model is unknown.
        RunDirectoryError: the journal cannot be opened.
    """
    llm = heldout_model or config.llm
    price, limit = find_price(llm), config.synthesis.max_cost
    require_price(price, limit, model=llm.model, section="llm" if heldout_model is None else "evaluation.llm")
    with Journal(run.journal_path if heldout_model is None else run.heldout_journal_path) as journal:
        model = engine.client(llm, seed=config.seed)
        try:
            yield PaidSession(model, price, journal, run_budget(config, run))
        finally:
            engine.run(model.aclose())


class JournaledClient:
    """Answers from the journal where it can; else asks, keeps the answer, and only then gives it out.

    Implements `LLMClient`. Equal requests in flight at one time are asked once.

    Args:
        inner: who is asked.
        journal: where answers are kept.
        strategy: who asks where a request does not say: part of every key, as strategies do not share answers.
        budget: what every request that goes to the inner client is counted against, before it is sent. One that
            nothing is left for fails as "over_limit"; what the journal holds is given out all the same.
        price: of the model; None where it is unknown.

    Attributes:
        asked: requests that went to the inner client.
        reused: requests that the journal answered.
    """

    def __init__(
        self,
        inner: LLMClient,
        journal: Journal,
        *,
        strategy: str,
        budget: Budget | None = None,
        price: PriceConfig | None = None,
    ) -> None:
        self._inner = inner
        self._journal = journal
        self._strategy = strategy
        self._budget = budget or Budget()
        self._price = price
        self._pending: dict[str, asyncio.Future[None]] = {}
        self.asked = 0
        self.reused = 0

    def __repr__(self) -> str:
        return f"JournaledClient({self._inner!r}, {self._journal!r}, strategy={self._strategy!r})"

    @property
    def identity(self) -> str:
        """The inner client's."""
        return self._inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request; see `LLMClient.complete`.

        Raises:
            CompletionFailure: the inner client's, counted in the journal; or "over_limit".
            RunDirectoryError: the journal can keep no further answer.
            LLMError: the inner client's.
        """
        plain = request_json(request)
        key = key_of(self.identity, request.asked_by or self._strategy, plain)
        while True:
            answer = self._journal.find(key)
            if answer is not None:
                self.reused += 1
                return answer
            pending = self._pending.get(key)
            if pending is not None:
                await asyncio.wait([pending])
                continue
            reservation = self._budget.reserve(request, self._price)
            if reservation is not None:
                return await self._ask(key, plain, request, reservation)
            await self._budget.released()

    async def aclose(self) -> None:
        """Close the inner client; the journal stays open."""
        await self._inner.aclose()

    async def _ask(self, key: str, plain: str, request: CompletionRequest, reservation: Reservation) -> Completion:
        asked_by, answer = request.asked_by or self._strategy, None
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending[key] = over
        try:
            self._journal.check()
            self.asked += 1
            answer = storable(await self._inner.complete(request))
            await self._journal.keep(JournalEntry(key, asked_by, self.identity, plain, answer, now()))
        except CompletionFailure as failure:
            await self._note(key, failure, asked_by)
            raise
        except LLMError as refusal:
            kind = "unreachable" if isinstance(refusal, EndpointUnreachableError) else "refused"
            await self._note(key, CompletionFailure(kind, str(refusal)), asked_by)
            raise
        finally:
            del self._pending[key]
            over.set_result(None)
            self._budget.settle(reservation, answer)
        return answer

    async def _note(self, key: str, failure: CompletionFailure, asked_by: str) -> None:
        noted = self._journal.record_failure(key, failure, strategy=asked_by, client=self.identity)
        await asyncio.wrap_future(noted)
