"""Limits on what a run may cost, counted over all its journals and sessions, before anything is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from multigrain.config import Config, PriceConfig
from multigrain.errors import ConfigError
from multigrain.llm.prices import BYTES_A_TOKEN, about_prompt_tokens, about_text_tokens, about_tokens
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import TokenSums
from multigrain.llm.session.usage import JournalUsage, read_usage
from multigrain.storage.rundir import RunDirectory

_LATEST: Final = 200  # prompts by which lengths are reckoned


def require_price(
    price: PriceConfig | None, max_cost: float | None, *, model: str = "the model", section: str = "llm"
) -> None:
    """See that a limit on the cost can be kept.

    Args:
        price: of the model; None where it is unknown.
        max_cost: US dollars; None: no limit.
        model: its name.
        section: of the config, where the model is set.

    Raises:
        ConfigError: there is a limit on the cost, and nobody knows the price.
    """
    if max_cost is not None and price is None:
        raise ConfigError(
            f"synthesis.max_cost (--max-cost) is {max_cost:g}, and nobody knows what {model} costs: set "
            f"{section}.prices, in US dollars per million tokens, or limit tokens with --max-tokens "
            "(synthesis.max_total_tokens)"
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is set aside for one request in flight.

    Attributes:
        request: the request.
        price: of the model that is asked.
        tokens: that it may come to.
        cost: US dollars that it may come to.
    """

    request: CompletionRequest
    price: PriceConfig | None
    tokens: float
    cost: float


class Budget:
    """What a run may spend, on whichever model and for whichever purpose. For one event loop.

    Every request reserves the most that it may cost before it is sent. One that does not fit beside those in flight
    waits until they are over; one that is alone is sent as long as anything is left. So what is spent passes a limit
    by less than the cost of one request, however many are in flight. Prompts count as a token a byte, which is more
    than any tokenizer makes of them, until an answer has told how many tokens they are at most. Answers of an endpoint
    that reports no tokens count by their length.

    Args:
        journals: what each of the run's journals adds up to.
        max_cost: US dollars; None: no limit. A model that costs nothing is asked whatever is left.
        max_tokens: read and written; None: no limit.

    Raises:
        ConfigError: there is a limit on the cost, and nobody knows the price of a model that has answered.

    Attributes:
        tokens: read and written so far.
        cost: US dollars so far, of the models whose price is known.
    """

    def __init__(
        self,
        journals: Iterable[JournalUsage] = (),
        *,
        max_cost: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self.tokens = 0
        self.cost = 0.0
        for usage in journals:
            if usage.totals.completions:
                require_price(usage.price, max_cost, model=f"the model that answered into {usage.path.name}")
            self.tokens += usage.totals.tokens
            self.cost += usage.cost or 0.0
        self._awaited_tokens, self._awaited_cost = 0.0, 0.0  # of batch files: they may be answered any day
        self._flying_tokens, self._flying_cost = 0.0, 0.0
        self._in_flight = 0
        self._tokens_an_estimate: float | None = None  # that an endpoint has reported, at most
        self._waiting: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"Budget(cost={self.cost}, tokens={self.tokens}, in flight: {self._in_flight})"

    def reserve(self, request: CompletionRequest, price: PriceConfig | None) -> Reservation | None:
        """Set aside the most that a request may cost.

        Args:
            request: what is to be sent.
            price: of the model that is asked; None where it is unknown.

        Returns:
            To be given to `settle` when the request is over; None where it has to wait for those in flight: see
            `released`.

        Raises:
            CompletionFailure: nothing is left ("over_limit").
        """
        if not self._anything_left(price):
            awaited = "; requests in batch files count until their answers are read" if self._awaited_tokens else ""
            raise CompletionFailure("over_limit", f"the run's spending limit is reached{awaited}")
        tokens, cost = self._at_most(request, price)
        if self._in_flight and not self._fits(tokens, cost):
            return None
        self._flying_tokens += tokens
        self._flying_cost += cost
        self._in_flight += 1
        return Reservation(request, price, tokens, cost)

    def reserve_in_batch(
        self, request: CompletionRequest, price: PriceConfig | None, *, written: bool = False
    ) -> bool:
        """Set aside the most that a request in a batch file may cost, until the budget is read anew.

        Args:
            request: what is to be asked.
            price: of the model.
            written: whether it lies in a file already, and so counts whether it fits or not.

        Returns:
            Whether it fits.
        """
        tokens, cost = self._at_most(request, price)
        share = 1.0 if price is None else price.batch_share
        alone = not self._awaited_tokens and self._anything_left(price)
        if not (written or alone or self._fits(tokens, cost * share)):
            return False
        self._awaited_tokens += tokens
        self._awaited_cost += cost * share
        return True

    async def released(self) -> None:
        """Wait until a request in flight is over."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def settle(self, reservation: Reservation, completion: Completion | None) -> None:
        """End a reservation, once. What the answer cost is spent; where none came, no one reports what that cost."""
        self._in_flight -= 1
        # Exactly nothing where nothing is in flight: no rounding is left over.
        self._flying_tokens = self._flying_tokens - reservation.tokens if self._in_flight else 0.0
        self._flying_cost = self._flying_cost - reservation.cost if self._in_flight else 0.0
        if completion is not None:
            read, written = completion.prompt_tokens, completion.completion_tokens
            if not read and not written:  # the endpoint reports none, which is no reason to spend without a limit
                read, written = about_tokens(reservation.request), about_text_tokens(completion.text)
            sums = TokenSums(1, read, written, completion.cached_tokens)
            self.tokens += sums.tokens
            self.cost += 0.0 if reservation.price is None else sums.cost(reservation.price)
            if self._max_tokens is not None or self._max_cost is not None:
                self.learn(reservation.request, completion.prompt_tokens)
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def learn(self, request: CompletionRequest, prompt_tokens: int) -> None:
        """Take in how many tokens a prompt was, as an endpoint reports it; 0 says nothing."""
        if prompt_tokens:
            reported = prompt_tokens / max(1.0, about_prompt_tokens(request))
            self._tokens_an_estimate = max(1.0, self._tokens_an_estimate or 0.0, reported)

    def _at_most(self, request: CompletionRequest, price: PriceConfig | None) -> tuple[float, float]:
        """Tokens and dollars that a request may come to; nothing is reckoned where there is no limit."""
        if self._max_tokens is None and self._max_cost is None:
            return 0.0, 0.0
        reading = about_prompt_tokens(request) * (self._tokens_an_estimate or BYTES_A_TOKEN)
        writing = max(request.max_tokens, request.room)
        cost = 0.0 if price is None else (reading * price.prompt + writing * price.completion) / 1e6
        return reading + writing, cost

    def _anything_left(self, price: PriceConfig | None) -> bool:
        tokens, cost = self.tokens + self._awaited_tokens, self.cost + self._awaited_cost
        free = price is not None and not (price.prompt or price.completion)
        return (self._max_tokens is None or tokens < self._max_tokens) and (
            self._max_cost is None or free or cost < self._max_cost
        )

    def _fits(self, tokens: float, cost: float) -> bool:
        tokens += self.tokens + self._awaited_tokens + self._flying_tokens
        total = cost + self.cost + self._awaited_cost + self._flying_cost
        return (self._max_tokens is None or tokens <= self._max_tokens) and (
            self._max_cost is None or not cost or total <= self._max_cost
        )


def run_budget(config: Config, run: RunDirectory, *, files_lost: bool = False) -> Budget:
    """What is left of a run's limits, over all its journals, each at the price of the model that answers into it.

    Args:
        config: the run's.
        run: the run.
        files_lost: do not wait for the answers to batch files: they are written again.

    Raises:
        ConfigError: there is a limit on the cost, and a price is unknown.
    """
    limits = config.synthesis
    limited = limits.max_cost is not None or limits.max_total_tokens is not None
    journals = read_usage(run, config).journals
    budget = Budget(journals, max_cost=limits.max_cost, max_tokens=limits.max_total_tokens)
    for usage in journals if limited else ():
        with Journal(usage.path, create=False) as journal:
            for request, tokens in journal.latest_prompts(_LATEST):
                budget.learn(request, tokens)
            for request in () if files_lost else journal.awaited():
                budget.reserve_in_batch(request, usage.price, written=True)
    return budget
