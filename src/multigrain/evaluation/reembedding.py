"""What it takes to embed a corpus again, as a tuned model whose documents are no longer the base's asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from multigrain.display import numbers as figures
from multigrain.llm.prices import about_text_tokens

_HOUR = 3600
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Reembedding:
    """The cost of embedding the corpus once.

    Attributes:
        texts: documents of the corpus.
        tokens: of them all, by the length of the run's documents.
        cost: US dollars; None where no price is known.
        hours: at the speed that was measured or named; None where neither was.
        needed_by: models of the run that ask for it.
        spared_by: models of the run that keep the base's document vectors.
    """

    texts: int
    tokens: int
    cost: float | None
    hours: float | None
    needed_by: tuple[str, ...]
    spared_by: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """In words."""
        cost = "" if self.cost is None else f", ${self.cost:,.2f}"
        hours = "" if self.hours is None else f", {_hours(self.hours)}"
        corpus = f"{self.texts:,} texts (about {figures.amount(self.tokens)} tokens{cost}{hours})"
        spared = f"{_and(self.spared_by)} keep{'s' if len(self.spared_by) == 1 else ''} the base's document vectors"
        if not self.needed_by:
            return f"{spared}: embedding {corpus} again is spared"
        needed = f"{_and(self.needed_by)} need{'s' if len(self.needed_by) == 1 else ''} {corpus} embedded again"
        return needed if not self.spared_by else f"{needed}; {spared}"


def reembedding(
    sample: Sequence[str],
    *,
    documents: int | None,
    price: float | None,
    texts_per_second: float | None,
    needed_by: Iterable[str],
    spared_by: Iterable[str],
) -> Reembedding | None:
    """Add up the cost of embedding a corpus once.

    Args:
        sample: the run's documents, whose lengths stand for all.
        documents: of the corpus; None for those of the sample.
        price: US dollars per million tokens; None where it is unknown.
        texts_per_second: that are embedded; None where it is unknown.
        needed_by: models that ask for it.
        spared_by: models that do not.

    Returns:
        None where there is no document to go by.
    """
    if not sample:
        return None
    texts = len(sample) if documents is None else documents
    tokens = round(sum(map(about_text_tokens, sample)) / len(sample) * texts)
    return Reembedding(
        texts=texts,
        tokens=tokens,
        cost=None if price is None else tokens * price / _MILLION,
        hours=None if not texts_per_second else texts / texts_per_second / _HOUR,
        needed_by=tuple(needed_by),
        spared_by=tuple(spared_by),
    )


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""
