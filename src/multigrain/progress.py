"""How long work tells of itself, without knowing whether anybody watches a terminal, a log or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Progress", "SilentProgress", "Task"]


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done; `note` is a short word on how it goes, e.g. a loss."""
        ...


class Progress(Protocol):
    """Shows work to whoever asked for it."""

    def task(self, title: str, total: int | None) -> AbstractContextManager[Task]:
        """Open a piece of work of `total` steps (None: unknown); leaving the context ends it."""
        ...

    def say(self, line: str) -> None:
        """Say one line, e.g. what a stage came to."""
        ...


class SilentProgress:
    """Shows nothing: the default of the Python API."""

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Task]:
        """Open a piece of work that nobody watches."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Say nothing."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        """Note nothing."""
