"""What is checked, measured and repaired."""

from __future__ import annotations

import itertools
from typing import Literal, Self

from pydantic import Field, model_validator

from multigrain.config.section import Section

__all__ = ["AuditConfig", "Band"]

Band = tuple[int, int]


class AuditConfig(Section):
    """What is checked, measured and repaired."""

    reference_model: str = "auto"
    """The encoder that measures similarity. auto: the model that is tuned, as it was before."""

    min_query_words: int = Field(default=2, ge=1)
    """Shorter queries are dropped."""

    max_query_words: int = Field(default=60, ge=2)
    """Longer queries are dropped."""

    round_trip_rank: int | None = Field(default=20, ge=1)
    """Drop queries that don't find their own document among this many of the corpus (null: keep all)."""

    negatives: Literal["hybrid", "mined", "written"] = "hybrid"
    """hybrid: written negatives that pass, mined ones in the other levels. mined / written: only these."""

    bands: tuple[Band, Band, Band, Band] = ((200, 2000), (40, 200), (8, 40), (0, 8))
    """Corpus ranks (from, to) that level 1, 2, 3 and 4 are mined from; rank 0 is the nearest document that is
    not the positive. Scaled down where the corpus is smaller than the last rank."""

    false_negative_margin: float = Field(default=0.05, ge=0, lt=1)
    """A negative must be at least this much less similar to the query than the positive."""

    min_level_gap: float = Field(default=0.03, ge=0, lt=0.5)
    """Smallest difference in similarity between neighbouring levels of one row."""

    max_copied_share: float = Field(default=0.8, gt=0, le=1)
    """A written negative that shares more of its word trigrams than this with the positive is a copy."""

    @model_validator(mode="after")
    def _bands_are_ordered(self) -> Self:
        if any(low >= high or low < 0 for low, high in self.bands):
            raise ValueError("every band must be [from, to] with 0 <= from < to")
        hardest_first = self.bands[::-1]
        if any(left[1] > right[0] for left, right in itertools.pairwise(hardest_first)):
            raise ValueError("bands must not overlap, and level 4 must hold the nearest ranks")
        return self
