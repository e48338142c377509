"""What a teacher is, and which of its scores are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

from multigrain.records import ScoreScale

LIMITS: Final[dict[ScoreScale, tuple[float, float]]] = {
    ScoreScale.COSINE: (-1.0, 1.0),
    ScoreScale.LOGIT: (-50.0, 50.0),
    ScoreScale.GRADE: (0.0, 5.0),
    ScoreScale.RANK: (0.0, 1.0),
    ScoreScale.GIVEN: (-math.inf, math.inf),
}
"""The lowest and the highest score of each scale."""

ROWS_AT_ONCE: Final = 32
"""Rows whose pairs are scored between two writes: what an interrupted run loses at most."""

TEXTS_AT_ONCE: Final = 256
"""Texts that an embedder embeds between two writes of vectors: teachers are large, and may run on a CPU."""

_ROUNDING: Final = 1e-3


class Teacher(Protocol):
    """Scores (query, passage) pairs: how well the passage answers the query."""

    @property
    def scale(self) -> ScoreScale:
        """Of its scores."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names all that decides the scores."""
        ...

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Any]:
        """A score a pair, in their order; what is no number of the scale counts as none."""
        ...


def kept_score(value: Any, scale: ScoreScale) -> float | None:
    """A score as it is kept; None for what is no finite number within the scale.

    A cosine may leave its scale by a rounding, and is then its end.
    """
    if value is None or isinstance(value, bool | str | bytes):
        return None
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    low, high = LIMITS[scale]
    if not math.isfinite(score) or not low - _ROUNDING <= score <= high + _ROUNDING:
        return None
    return min(max(score, low), high)
