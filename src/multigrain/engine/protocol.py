"""What the rest of the program knows of where work runs: units go in, outcomes come out as they are done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["Engine", "Failure", "Outcome", "Work"]

Unit = TypeVar("Unit")
Value = TypeVar("Value")

Work = Callable[[Unit], Awaitable[Value]]
"""What is done with one unit."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a unit came to nothing.

    Attributes:
        kind: a short stable word, for counting; "internal" is a bug of ours.
        detail: one line for people.
        error: what was raised.
    """

    kind: str
    detail: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Unit, Value]):
    """What became of one unit.

    Attributes:
        unit: the unit.
        value: what the work returned; None where it failed.
        failure: why it failed; None where it did not.
    """

    unit: Unit
    value: Value | None = None
    failure: Failure | None = None


class Engine(Protocol):
    """Somewhere to run work."""

    def map(
        self,
        work: Work[Unit, Value],
        units: Iterable[Unit],
        *,
        budget_seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Outcome[Unit, Value]]:
        """Run work over units, yielding each outcome as it is done, in no particular order.

        Args:
            work: what to do with one unit. A `CompletionFailure` costs its unit only.
            units: pulled one by one as there is room; may be endless.
            budget_seconds: start no further unit after this long; those begun are finished.
            stop: asked before each unit; True means the same.

        Raises:
            MultigrainError: the first one that work raised, after the outcomes of all units begun by then.
        """
        ...
