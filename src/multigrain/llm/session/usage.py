"""Usage: completions, tokens and cost over a run's journals, each at the price of the model that answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multigrain.config import Config, LLMConfig, PriceConfig
from multigrain.llm.prices import find_price
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalTotals
from multigrain.storage.rundir import RunDirectory


@dataclass(frozen=True, slots=True)
class JournalUsage:
    """What one journal adds up to.

    Attributes:
        path: of the journal.
        totals: all of its answers, whichever stage asked for them.
        price: of the model; None where it is unknown.
    """

    path: Path
    totals: JournalTotals
    price: PriceConfig | None

    @property
    def cost(self) -> float | None:
        """US dollars; None where the price is unknown."""
        return None if self.price is None else round(self.totals.cost(self.price), 6)


@dataclass(frozen=True, slots=True)
class Usage:
    """What all journals of a run add up to.

    Attributes:
        journals: each by itself; none where nothing has been asked.
    """

    journals: tuple[JournalUsage, ...]

    @property
    def cost(self) -> float | None:
        """US dollars; None where there is no journal, or one's price is unknown."""
        costs = [journal.cost for journal in self.journals]
        amounts = [cost for cost in costs if cost is not None]
        return round(sum(amounts), 6) if amounts and len(amounts) == len(costs) else None

    def summary(self) -> dict[str, Any]:
        """Completions, failures by kind, tokens, and cost where all prices are known; under stable names."""
        totals = [journal.totals for journal in self.journals]
        failures: Counter[str] = Counter()
        details: dict[str, str] = {}
        for journal in totals:
            failures.update(journal.failures)
            details |= journal.details
        return {
            "journal": str(self.journals[0].path) if self.journals else "",
            "completions": sum(journal.completions for journal in totals),
            "from_batches": sum(journal.batch.completions for journal in totals),
            "awaiting_batch": sum(journal.awaiting_batch for journal in totals),
            "cut_at_limit": sum(journal.cut for journal in totals),
            "failures": dict(failures),
            "failure_details": details,
            "prompt_tokens": sum(journal.prompt_tokens for journal in totals),
            "cached_tokens": sum(journal.cached_tokens for journal in totals),
            "completion_tokens": sum(journal.completion_tokens for journal in totals),
            "uncounted": sum(journal.uncounted for journal in totals),
            "cost": self.cost,
        }


def read_usage(of: RunDirectory | Path, config: Config | None) -> Usage:
    """Add up a run's journals: its own, and that of another model which writes the held-out queries.

    Args:
        of: the run; or one journal's file, which has no price by itself.
        config: the run's; None where it is not known.

    Raises:
        RunDirectoryError: a journal cannot be opened.
    """
    if isinstance(of, Path):
        models: dict[Path, LLMConfig | None] = {of: None}
    else:
        own, other = (None, None) if config is None else (config.llm, config.evaluation.llm)
        models = {of.journal_path: own, of.heldout_journal_path: other}
    journals = []
    for path, model in models.items():
        if path.is_file():
            with Journal(path, create=False) as journal:
                price = None if model is None else find_price(model)
                journals.append(JournalUsage(path, journal.totals(), price))
    return Usage(tuple(journals))
