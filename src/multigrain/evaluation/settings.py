"""How a comparison is made. Loads no library, so that the command line can name its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMALLEST_DIFFERENCE: Final = 0.01
"""The smallest difference that matters, on a scale of 0 to 1."""


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """How a comparison is made.

    Attributes:
        samples: random signs behind each p-value, and resamples behind intervals of correlations and several seeds.
        confidence: width of the intervals; 1 - confidence is the chance of a false claim that is accepted.
        smallest: the smallest difference that matters. Decides when "no difference" may be said.
        seed: of the resampling.
    """

    samples: int = 10_000
    confidence: float = 0.95
    smallest: float = SMALLEST_DIFFERENCE
    seed: int = 13
