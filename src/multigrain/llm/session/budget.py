"""Limits on what a run may cost, counted over all its sessions."""

from __future__ import annotations

import math
from typing import Literal

from multigrain.config import PriceConfig
from multigrain.errors import ConfigError
from multigrain.llm.prices import about_prompt_tokens, cost_of
from multigrain.llm.protocol import Completion, CompletionRequest
from multigrain.llm.session.records import JournalTotals

__all__ = ["Decision", "Spending", "require_price"]

Decision = Literal["send", "wait", "stop"]
"""What becomes of a request: it is sent, it waits for one in flight and is asked about again, or it is never sent."""


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


class Spending:
    """Adds up completions and says when to stop. Every completion in the journal counts, from whichever session.

    A request may be sent only if what has been spent, and what it and those in flight are likely to cost at the
    average so far, stays within the limits. An average is no promise: the last ones may run over by a little.

    While nothing has been answered there is no average, and every request counts as if its answer took all the tokens
    it may. One alone is sent whatever it may take, for the limit to be of use below that; the others wait for it.

    Args:
        so_far: what the journal holds.
        price: of the model; None where it is unknown.
        max_cost: US dollars; None: no limit. At 0 nothing is left; a model that costs nothing is asked all the same.
        max_tokens: read and written; None: no limit. At 0 nothing is left.

    Raises:
        ConfigError: there is a limit on the cost, and nobody knows the price.
    """

    def __init__(
        self,
        so_far: JournalTotals,
        *,
        price: PriceConfig | None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        require_price(price, max_cost)
        self._price = price
        self._max_cost = None if price is not None and _is_free(price) else max_cost
        self._max_tokens = max_tokens
        self._completions = so_far.completions
        self.tokens = so_far.prompt_tokens + so_far.completion_tokens
        self.cost = None if price is None else so_far.cost(price)
        self._longest = 0  # tokens, and dollars: the worst that a request so far may come to
        self._dearest = 0.0

    def __repr__(self) -> str:
        return f"Spending(cost={self.cost}, tokens={self.tokens})"

    def add(self, completion: Completion) -> None:
        """Count a completion that was asked for and received."""
        self._completions += 1
        self.tokens += completion.prompt_tokens + completion.completion_tokens
        if self._price is not None and self.cost is not None:
            self.cost += cost_of(
                self._price,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
                cached_tokens=completion.cached_tokens,
            )

    def decide(self, in_flight: int, request: CompletionRequest) -> Decision:
        """Whether one more request stays within the limits.

        Args:
            in_flight: requests that are being answered.
            request: the one that is to be sent.

        Returns:
            "wait" only while requests are in flight: none has been answered yet, and an answer is what can tell.
        """
        tokens, cost, ahead = self.tokens, self.cost or 0.0, in_flight + 1
        if not self._within(tokens, cost, left=True):
            return "stop"
        if self._completions:
            # Multiplied first: what just fits is not to be lost to rounding.
            tokens_then = tokens + tokens * ahead / self._completions
            return "send" if self._within(tokens_then, cost + cost * ahead / self._completions) else "stop"
        self._expect(request)
        at_most = self._within(ahead * self._longest, ahead * self._dearest)
        return "send" if at_most or not in_flight else "wait"

    def _within(self, tokens: float, cost: float, *, left: bool = False) -> bool:
        """Whether so much is within both limits; with `left`, by more than nothing."""
        pairs = ((tokens, self._max_tokens), (cost, self._max_cost))
        return all(limit is None or (spent < limit if left else spent <= limit) for spent, limit in pairs)

    def _expect(self, request: CompletionRequest) -> None:
        """Remember the worst that a request may come to. Those in flight count as this much each."""
        reading, writing = math.ceil(about_prompt_tokens(request)), request.max_tokens
        self._longest = max(self._longest, reading + writing)
        if self._price is not None:
            cost = cost_of(self._price, prompt_tokens=reading, completion_tokens=writing)
            self._dearest = max(self._dearest, cost)


def _is_free(price: PriceConfig) -> bool:
    return not (price.prompt or price.completion)
