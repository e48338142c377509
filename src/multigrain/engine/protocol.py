"""The protocol of engines: units of work go in, outcomes come out as they are done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from multigrain.config import LLMConfig
from multigrain.llm.protocol import LLMClient

Unit = TypeVar("Unit")
Value = TypeVar("Value")
Result = TypeVar("Result")

Work = Callable[[Unit], Awaitable[Value]]
"""What is done with one unit, where doing means waiting: for a language model."""

Compute = Callable[[Unit], Value]
"""What is done with one unit, where doing means computing; may be pickled and run in another process."""


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
    """Somewhere to run work.

    What waits (`map`) runs in this process, where the journal is, and asks through the engine's `client`. What
    computes (`compute`) and what the client asks run wherever the engine has its workers.
    """

    def client(self, config: LLMConfig, *, seed: int) -> LLMClient:
        """The language model that a config names, asked from the engine's workers.

        Its requests in flight are those of the config, over all workers together.

        Raises:
            ConfigError, MissingExtraError, ModelError, LLMError: see `build_client`.
        """
        ...

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run one coroutine on the engine's loop and return its result."""
        ...

    def close(self) -> None:
        """Let go of workers and threads. Safe to call twice."""
        ...

    def __enter__(self) -> Self:
        """Use the engine in a `with` block, which closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""
        self.close()

    def compute(
        self, work: Compute[Unit, Value], units: Iterable[Unit], *, stop: Callable[[], bool] | None = None
    ) -> Iterator[Outcome[Unit, Value]]:
        """Run a computation over units, yielding each outcome as it is done, in no particular order.

        Args:
            work: what to do with one unit; it and the units can be pickled. It may run twice for a unit whose
                worker died, so what it writes must be the same each time.
            units: pulled one by one as there is room.
            stop: asked before each unit; True starts no further one.

        Raises:
            MultigrainError: the first one that work raised, after the outcomes of all units begun by then.
        """
        ...

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
