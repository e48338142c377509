"""How good the test queries are that a language model wrote: how many of them find their document, or pass a judge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WrittenQuality:
    """What is known of a set's written queries.

    Attributes:
        queries: how many were asked.
        found: those for which the base model finds a right document among the first `within`: the round trip.
        within: how far down that may be.
        judged: held-out queries that a judge of queries was shown; None where none was asked.
        passed: those that it let pass; the others are not asked.
    """

    queries: int
    found: int
    within: int
    judged: int | None = None
    passed: int | None = None

    def __str__(self) -> str:
        among = "first" if self.within == 1 else f"among the first {self.within}"
        words = (
            f"a language model wrote these queries: for {self.found:,} of {self.queries:,} "
            f"({self.found / self.queries:.0%}) the base model finds the right document {among}"
        )
        if self.judged:
            words += f"; the judge of queries let {self.passed:,} of {self.judged:,} held-out queries pass"
        return words


def written_quality(
    ranks: Iterable[int | None], *, within: int, judged: int | None = None, passed: int | None = None
) -> WrittenQuality:
    """Measure written queries by the ranks of their documents.

    Args:
        ranks: of each query's first right document under the base model, from 1; None beyond what was kept.
        within: how far down it may be found.
        judged: held-out queries that a judge was shown.
        passed: those that it let pass.
    """
    listed = list(ranks)
    found = sum(rank is not None and rank <= within for rank in listed)
    return WrittenQuality(len(listed), found, within, judged, passed)
