"""Retries: exponential waits with jitter, and whatever the endpoint itself asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

RETRIED_STATUS: Final = frozenset({408, 409, 425, 429})
"""Passing refusals, besides every 5xx; the OpenAI SDK retries the same."""

_LONGEST_PAUSE: Final = 300.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between attempts, where the endpoint does not say.

    Attributes:
        first_wait: seconds after the first failed attempt, at most; each further wait is twice as long.
        longest_wait: seconds that no wait is longer than.
    """

    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait_seconds(self, attempt: int, chance: random.Random) -> float:
        """How long to wait after a failed attempt: half of its longest wait at least.

        Args:
            attempt: 0 for the first one.
            chance: the jitter, so that requests that failed together don't come back together.
        """
        return min(self.first_wait * 2.0**attempt, self.longest_wait) * chance.uniform(0.5, 1.0)


def retry_after_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """The pause that an endpoint asks for, 0-300 s; None where it asks for none that makes sense.

    Args:
        headers: of the response; `retry-after-ms`, or `retry-after` in seconds or as a date.
        now: seconds since 1970.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, time.time() if now is None else now)
        if 0 <= seconds < float("inf"):
            return min(seconds, _LONGEST_PAUSE)
    return None


def _until(date: str, now: float) -> float:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return -1.0
