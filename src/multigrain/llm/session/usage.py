"""What a run has spent so far: over its journals, each at the price of the model that answered into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from multigrain.config import Config, PriceConfig
from multigrain.llm.prices import find_price
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalTotals
from multigrain.storage.rundir import RunDirectory

__all__ = ["Spent", "cost_of_all", "spent_by_run"]


class Spent(NamedTuple):
    """What one journal adds up to.

    Attributes:
        totals: all of its answers, whichever stage asked for them.
        price: of the model; None where it is unknown.
    """

    totals: JournalTotals
    price: PriceConfig | None


def spent_by_run(run: RunDirectory, config: Config | None) -> list[Spent]:
    """What each of a run's journals adds up to: its own, and that of the model which wrote the held-out queries.

    Args:
        run: the run.
        config: the run's; None where it is not known.
    """
    own, other = (None, None) if config is None else (config.llm, config.evaluation.llm)
    journals = ((run.journal_path, own), (run.heldout_journal_path, other))
    found = []
    for path, llm in journals:
        if path.is_file():
            with Journal(path, create=False) as opened:
                found.append(Spent(opened.totals(), None if llm is None else find_price(llm)))
    return found


def cost_of_all(spent: Sequence[Spent]) -> float | None:
    """US dollars; None where there is no journal, or one's price is unknown."""
    if not spent or any(price is None for _, price in spent):
        return None
    return round(sum(totals.cost(price) for totals, price in spent if price is not None), 6)
