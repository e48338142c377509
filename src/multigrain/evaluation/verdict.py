"""What a test comes to: what to do with the tuned model, and whether the set left anything to gain.

One decision, which the terminal and the report put into words of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Protocol

__all__ = ["ABOUT_ZERO", "SMALLEST_DIFFERENCE", "Decision", "Difference", "decide", "left_to_gain"]

Decision = Literal["use", "worse", "no better on validation", "not shown", "no gain"]
"""use: a gain is measured. worse: a loss is. no better on validation: it did not beat the base model where it was
chosen. not shown: it points up, or nothing was tested. no gain: it does not even point up."""

SMALLEST_DIFFERENCE: Final = 0.01
"""The smallest difference that matters, on a scale of 0 to 1."""
ABOUT_ZERO: Final = 0.0005
"""A smaller difference is shown as 0.0 points."""
_FULL: Final = 0.9995
"""A score from here on is shown as 1.000."""


class Difference(Protocol):
    """Tuned minus base, with its interval."""

    @property
    def mean(self) -> float:
        """Over queries."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def decide(tests: Iterable[Difference], *, beat_base: bool | None) -> Decision:
    """What to do with the chosen model.

    Args:
        tests: its differences from the base model, one a test set.
        beat_base: whether it scored above the base model on the validation queries; None without any.
    """
    tests = tuple(tests)
    if any(each.high < 0 for each in tests):
        return "worse"
    if any(each.low > 0 for each in tests):
        return "use"
    if beat_base is False:
        return "no better on validation"
    if not tests or any(each.mean > ABOUT_ZERO for each in tests):
        return "not shown"
    return "no gain"


def left_to_gain(base: float) -> Literal["nothing", "next to nothing", "something"]:
    """How much better than the base model anything could be.

    Args:
        base: its score, 0 to 1.
    """
    if base >= _FULL:
        return "nothing"
    return "next to nothing" if base > 1 - SMALLEST_DIFFERENCE else "something"
