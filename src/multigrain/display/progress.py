"""How long work tells of itself, without knowing whether anybody watches a terminal, a log or nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol

__all__ = ["Progress", "SilentProgress", "Task", "telling_of_interrupt"]


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        """Say that `steps` more are done; `note` is a short word on how it goes, e.g. a loss.

        `resumed` steps were done in an earlier session: they count as done, and say nothing of how fast work goes.
        """
        ...


class Progress(Protocol):
    """Shows work to whoever asked for it."""

    def task(self, title: str, total: int | None, *, unit: str = "") -> AbstractContextManager[Task]:
        """Open a piece of work of `total` steps (None: unknown), called `unit`; leaving the context ends it."""
        ...

    def say(self, line: str) -> None:
        """Say one line, e.g. what a stage came to."""
        ...

    def remark(self, line: str) -> None:
        """Say one line that is no result: what is about to happen, or what a person should know of."""
        ...


class SilentProgress:
    """Shows nothing: the default of the Python API."""

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "") -> Iterator[Task]:
        """Open a piece of work that nobody watches."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Say nothing."""

    def remark(self, line: str) -> None:
        """Say nothing."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        """Note nothing."""


@contextmanager
def telling_of_interrupt(progress: Progress, line: str) -> Iterator[None]:
    """Say a line at the first Ctrl-C within the block, before what is under way is put away.

    Signals reach the main thread only, so elsewhere nothing is changed; nor is it where Ctrl-C is handled otherwise.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def tell(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        progress.remark(line)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
