"""The limit of requests in flight: as many as allowed until the endpoint pushes back, then as many as it takes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_CUT: Final = 0.7
"""What is left of the limit after a push-back. Gentler than TCP's half: endpoints count requests a minute, and
the pause that they ask for does the rest."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, for one event loop.

    Args:
        maximum: requests in flight that are never exceeded; also where the limit starts.
        clock: seconds, monotonic.
    """

    def __init__(self, maximum: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._maximum = maximum
        self._clock = clock
        self._limit = float(maximum)
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._last_cut = float("-inf")
        self._hold_until = float("-inf")

    def __repr__(self) -> str:
        return f"AdaptiveLimit({self.current} of {self._maximum}, in flight: {self._in_flight})"

    @property
    def current(self) -> int:
        """Requests that may be in flight now."""
        return max(1, int(self._limit))

    def slot(self) -> _Slot:
        """A context that waits for a free place and holds it: the time at which it was taken, for `pushed_back`."""
        return _Slot(self)

    async def take(self) -> float:
        """Wait for a free place; the time at which it was taken. It is to be given back."""
        await self._take()
        return self._clock()

    def give_back(self) -> None:
        """Free a place."""
        self._in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        """A request was answered: one more may fly per round of the present number."""
        if self._limit < self._maximum:
            self._limit = min(self._maximum, self._limit + 1 / self._limit)
            self._wake()

    def pushed_back(self, sent_at: float, pause: float | None) -> None:
        """The endpoint said that it was too much.

        Args:
            sent_at: when the refused request took its slot. Requests that were already in flight at the last cut
                say nothing new and do not cut again.
            pause: seconds for which the endpoint asked to be left alone.
        """
        now = self._clock()
        if sent_at >= self._last_cut:
            self._limit = max(1.0, min(self._limit, self._in_flight) * _CUT)
            self._last_cut = now
        if pause is not None:
            self._hold_until = max(self._hold_until, now + pause)

    async def _take(self) -> None:
        while True:
            pause = self._hold_until - self._clock()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
            if self._in_flight < self.current:
                self._in_flight += 1
                return
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._wake()  # it was this one's turn: pass it on
                raise

    def _wake(self) -> None:
        room = self.current - self._in_flight
        while room > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1


class _Slot:
    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit

    async def __aenter__(self) -> float:
        return await self._limit.take()

    async def __aexit__(self, *_: object) -> None:
        self._limit.give_back()
