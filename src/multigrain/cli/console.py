"""What people see: bars on a terminal, plain lines where output is piped. All of it on stderr."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.progress import TaskID as RichTaskID
from rich.text import Text

from multigrain.progress import Progress, Task

__all__ = ["console", "print_json", "quieten_libraries", "terminal_progress"]

_PLAIN_INTERVAL = 10.0  # seconds between two lines of one piece of work where there is no terminal


@cache
def console() -> Console:
    """The console on stderr: stdout is for results."""
    return Console(stderr=True)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one object on one line of stdout."""
    typer.echo(json.dumps(values, ensure_ascii=False, default=str))


def quieten_libraries() -> None:
    """Keep libraries' own bars, banners and notices off the screen: warnings stay on, chatter goes."""
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from datasets.utils.logging import disable_progress_bar as quiet_datasets
    from transformers.utils import logging as transformers_logging

    quiet_datasets()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("sentence_transformers", "httpx", "huggingface_hub", "mteb"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def terminal_progress() -> Progress:
    """Bars where stderr is a terminal, plain lines where it is not."""
    return _Bars(console()) if console().is_terminal else _Lines(console())


class _Bars:
    def __init__(self, target: Console) -> None:
        self._console = target

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Task]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _RateColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            yield _BarTask(bars, bars.add_task(title, total=total, note=""))

    def say(self, line: str) -> None:
        self._console.print(f"[green]✓[/] {escape(line)}", highlight=False, soft_wrap=True)


class _RateColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        """The rate of late, or nothing before there is one."""
        return Text(_rate(task.speed) if task.speed else "", style="dim")


class _BarTask:
    def __init__(self, bars: RichProgress, identifier: RichTaskID) -> None:
        self._bars = bars
        self._identifier = identifier

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bars.update(self._identifier, advance=steps, note=escape(note))


class _Lines:
    def __init__(self, target: Console) -> None:
        self._console = target

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Task]:
        self._print(f"{title} …")
        yield _LineTask(self._print, title, total)

    def say(self, line: str) -> None:
        self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _LineTask:
    def __init__(self, show: Any, title: str, total: int | None) -> None:
        self._show = show
        self._title = title
        self._total = total
        self._done = 0
        self._started = self._shown = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._shown < _PLAIN_INTERVAL and self._done != self._total:
            return
        self._shown = now
        rate = self._done / max(now - self._started, 1e-9)
        if self._total is None:
            of_total, left = "", ""
        else:
            of_total, left = f"/{self._total}", f", {_duration((self._total - self._done) / max(rate, 1e-9))} left"
        if self._done == self._total:
            left = f" in {_duration(now - self._started)}"
        shown = f", {note}" if note else ""
        self._show(f"{self._title}: {self._done}{of_total} ({_rate(rate)}{left}){shown}")


def _rate(a_second: float) -> str:
    """A rate with a number that can be read: a second, or a minute where it is less than one."""
    return f"{a_second:.1f}/s" if a_second >= 1 else f"{a_second * 60:.1f}/min"


def _duration(seconds: float) -> str:
    """E.g. "50 s", "4 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
