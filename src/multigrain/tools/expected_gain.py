"""What tuning gained where it was measured, and how many test queries it takes to show such a gain.

The figures are those of docs/results.md, which has the commands that reproduce them; a test compares both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, median
from typing import Final

from multigrain.config.writers import KNOWN_WRITERS, KnownWriter


@dataclass(frozen=True, slots=True)
class MeasuredGain:
    """One set on which a tuned model was compared with its base.

    Attributes:
        name: of the set.
        queries: test queries.
        gain: of the tuned model over the base, in points of nDCG@10.
        low: lower end of the 95% interval.
        high: upper end.
    """

    name: str
    queries: int
    gain: float
    low: float
    high: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the difference of one query, in points, as the interval has it."""
        return (self.high - self.low) / (2 * _Z_INTERVAL) * math.sqrt(self.queries)


_Z_INTERVAL: Final = 1.96  # two-sided, 95%
_Z_POWER: Final = 0.8416  # four times in five

SMALL_WRITER: Final = (
    MeasuredGain("pydocs", 2263, 4.4, 3.5, 5.2),
    MeasuredGain("aptsearch", 2155, 4.1, 3.4, 4.8),
    MeasuredGain("perlfaq", 144, 2.5, -0.4, 5.5),
    MeasuredGain("boolq", 2231, 0.0, -0.3, 0.3),
    MeasuredGain("consumer-contracts", 256, -0.6, -2.4, 1.2),
)
"""all-MiniLM-L6-v2 on 121 to 1,172 rows that SmolLM2-135M-Instruct wrote, coarse-to-fine."""

LARGER_WRITER: Final = (
    MeasuredGain("aptsearch", 2155, 3.7, 2.9, 4.5),
    MeasuredGain("perlfaq", 144, 2.3, -0.9, 5.8),
    MeasuredGain("consumer-contracts", 256, 2.2, -0.3, 4.6),
    MeasuredGain("boolq", 2231, -0.3, -0.7, 0.0),
)
"""The same base on 384 to 651 rows that Qwen2.5-Coder-1.5B-Instruct wrote, coarse-to-fine."""


@dataclass(frozen=True, slots=True)
class ExpectedGain:
    """What to expect of tuning all-MiniLM-L6-v2, by the sets that were measured; in points of nDCG@10.

    Attributes:
        writer: the language model whose rows were measured.
        sets: how many sets.
        mean: of their gains.
        least: of their gains.
        most: of their gains.
    """

    writer: str
    sets: int
    mean: float
    least: float
    most: float


def expected_gain(writer: KnownWriter | None) -> ExpectedGain:
    """The gains with the nearest writer that was measured.

    Args:
        writer: of the config, where it is a known one; larger models were not measured.
    """
    small = writer == KNOWN_WRITERS[0]
    gains = [measured.gain for measured in (SMALL_WRITER if small else LARGER_WRITER)]
    name = "SmolLM2-135M-Instruct" if small else "Qwen2.5-Coder-1.5B-Instruct"
    return ExpectedGain(name, len(gains), round(mean(gains), 1), min(gains), max(gains))


def queries_to_show(points: float) -> int:
    """About how many test queries show a difference four times in five, by a 95% interval that excludes zero.

    Args:
        points: the difference, above 0.
    """
    return math.ceil(((_Z_INTERVAL + _Z_POWER) * _usual_deviation() / points) ** 2)


def smallest_shown(queries: int) -> float:
    """The smallest difference in points that so many test queries show four times in five.

    Args:
        queries: at least 1.
    """
    return (_Z_INTERVAL + _Z_POWER) * _usual_deviation() / math.sqrt(queries)


def _usual_deviation() -> float:
    return median(measured.deviation for measured in (*SMALL_WRITER, *LARGER_WRITER))
