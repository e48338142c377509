"""Limits on what a run may cost, counted over all its sessions."""

from __future__ import annotations

from multigrain.config import PriceConfig
from multigrain.errors import ConfigError
from multigrain.llm.prices import cost_of
from multigrain.llm.protocol import Completion
from multigrain.synthesis.journal_records import JournalTotals

__all__ = ["Spending", "require_price"]


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

    Args:
        so_far: what the journal holds.
        price: of the model; None where it is unknown.
        max_cost: US dollars; None: no limit.
        max_tokens: read and written; None: no limit.

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
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self._completions = so_far.completions
        self.tokens = so_far.prompt_tokens + so_far.completion_tokens
        self.cost = None if price is None else so_far.cost(price)

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

    def allows(self, in_flight: int) -> bool:
        """Whether one more request stays within the limits.

        Args:
            in_flight: requests that are being answered.
        """
        ahead = 1 + (in_flight + 1) / self._completions if self._completions else 1.0
        if self._max_tokens is not None and self.tokens * ahead > self._max_tokens:
            return False
        return self._max_cost is None or (self.cost or 0.0) * ahead <= self._max_cost
