"""The rate of a piece of work and the time that is left, once enough of it has been seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_ENOUGH_ITEMS: Final = 3
_ENOUGH_SECONDS: Final = 5.0


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
