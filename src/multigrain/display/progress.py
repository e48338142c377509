"""The protocol by which work reports progress; who shows it, a terminal, a log or nobody, is decided elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        """Count `steps` more as done; `note` is a short word on how it goes, e.g. a loss.

        Steps that were done in an earlier session are `resumed`: they count as done, and are left out of the rate.
        """
        ...


class Progress(Protocol):
    """Shows the progress of work."""

    def task(self, title: str, total: int | None, *, unit: str = "") -> AbstractContextManager[Task]:
        """Open a piece of work of `total` steps (None: unknown), called `unit`; leaving the context ends it."""
        ...

    def say(self, line: str) -> None:
        """Show one line of results, e.g. the summary of a stage."""
        ...

    def remark(self, line: str) -> None:
        """Show one line that is not a result: what happens next, or a warning."""
        ...


class SilentProgress:
    """Shows nothing: the default of the Python API."""

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "") -> Iterator[Task]:
        """Open a piece of work without showing it."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Show nothing."""

    def remark(self, line: str) -> None:
        """Show nothing."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        """Show nothing."""


@contextmanager
def telling_of_interrupt(progress: Progress, line: str) -> Iterator[None]:
    """Show a line at the first Ctrl-C within the block, before the work under way is saved.

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
