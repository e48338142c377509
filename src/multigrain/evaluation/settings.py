"""How a comparison is made. Loads no library, so that the command line can name its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from multigrain.records import Precision

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


PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
"""Finest first."""


@dataclass(frozen=True, slots=True)
class SizeSettings:
    """Which sizes of vectors are tried, besides the whole ones in float32.

    Attributes:
        lengths: how many of a vector's numbers are kept; None for the lengths that the model was trained for or, where
            there are none, a half and a quarter. The whole is always among them.
        precisions: how each number is stored; float32 is always among them.
    """

    lengths: tuple[int, ...] | None = None
    precisions: tuple[Precision, ...] = ("float16", "int8", "binary")
