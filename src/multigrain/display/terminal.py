"""Progress for people, with rate and time that is left: bars on a terminal, plain lines where output is piped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.progress import TaskID as RichTaskID
from rich.text import Text

from multigrain.display.numbers import rate, rough_duration
from multigrain.display.progress import Progress, Task

_ENOUGH_ITEMS: Final = 3
_ENOUGH_SECONDS: Final = 5.0
_PLAIN_INTERVAL: Final = 10.0  # seconds between two lines of one piece of work where there is no terminal


class Pace:
    """Measures a rate from the first item that was done in this session.

    The first one is left out: a model's loading and warming up fall to it. So is what an earlier session did. Several
    requests in flight are answered at nearly one moment, so a rate wants both some items and some seconds.

    Args:
        total: items in all; None where it is not known.
        clock: seconds that only grow.
    """

    def __init__(self, total: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._started = clock()
        self._first: float | None = None
        self._first_items = 0
        self._new = 0

    def advance(self, items: int, *, resumed: bool) -> None:
        """Count items that are done; `resumed` ones were done before this session."""
        self.done += items
        if resumed:
            return
        self._new += items
        if self._first is None:
            self._first, self._first_items = self._clock(), items

    @property
    def rate(self) -> float | None:
        """New items a second; None as long as too little has been seen."""
        if self._first is None:
            return None
        items, seconds = self._new - self._first_items, self._clock() - self._first
        return items / seconds if items >= _ENOUGH_ITEMS and seconds >= _ENOUGH_SECONDS else None

    @property
    def overall(self) -> float | None:
        """New items a second from the start on, for when all is over; None where nothing was new."""
        return self._new / max(self.elapsed, 1e-9) if self._new else None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None as long as that cannot be told."""
        rate = self.rate
        return None if rate is None or self.total is None else (self.total - self.done) / rate


def console_progress(console: Console) -> Progress:
    """Bars where the console is a terminal, plain lines where it is not."""
    return _Bars(console) if console.is_terminal else _Lines(console)


class _Bars:
    def __init__(self, target: Console) -> None:
        self._console = target

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "") -> Iterator[Task]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            _PaceColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            pace = Pace(total)
            yield _BarTask(bars, bars.add_task(title, total=total, unit=unit, pace=pace, note=""), pace)

    def say(self, line: str) -> None:
        self._console.print(Text.assemble(("✓", "green"), f" {line}"), highlight=False, soft_wrap=True)

    def remark(self, line: str) -> None:
        self._console.print(Text(line), highlight=False, soft_wrap=True)


class _PaceColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        """The rate and the time that is left, or nothing before enough has been seen."""
        return Text(_pace_words(task.fields["pace"]), style="dim")


class _BarTask:
    def __init__(self, bars: RichProgress, identifier: RichTaskID, pace: Pace) -> None:
        self._bars = bars
        self._identifier = identifier
        self._pace = pace

    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        self._pace.advance(steps, resumed=resumed)
        self._bars.update(self._identifier, advance=steps, note=note)


class _Lines:
    def __init__(self, target: Console) -> None:
        self._console = target

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "") -> Iterator[Task]:
        self.say(f"{title} …")
        yield _LineTask(self.say, title, unit, Pace(total))

    def say(self, line: str) -> None:
        self._console.print(Text(line), highlight=False, soft_wrap=True)

    def remark(self, line: str) -> None:
        self.say(line)


class _LineTask:
    def __init__(self, show: Callable[[str], None], title: str, unit: str, pace: Pace) -> None:
        self._show = show
        self._title = title
        self._unit = f" {unit}" if unit else ""
        self._pace = pace
        self._shown = time.monotonic()

    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        pace = self._pace
        pace.advance(steps, resumed=resumed)
        now = time.monotonic()
        if now - self._shown < _PLAIN_INTERVAL and pace.done != pace.total:
            return
        self._shown = now
        of_total = "" if pace.total is None else f"/{pace.total}"
        words = _end_words(pace) if pace.done == pace.total else _pace_words(pace)
        shown = f", {note}" if note else ""
        self._show(f"{self._title}: {pace.done}{of_total}{self._unit}{f' ({words})' if words else ''}{shown}")


def _pace_words(pace: Pace) -> str:
    """The rate, and the time that is left where there is an end; empty as long as too little has been seen."""
    if pace.rate is None:
        return ""
    return rate(pace.rate) + ("" if pace.left is None else f", {rough_duration(pace.left)} left")


def _end_words(pace: Pace) -> str:
    overall = "" if pace.overall is None else f"{rate(pace.overall)} "
    return f"{overall}in {rough_duration(pace.elapsed)}"
