"""Numbers for people: scores, points, counts, shares, money and time."""

from __future__ import annotations

import math
from typing import Final, Protocol

_MINUS: Final = "−"


class _Interval(Protocol):
    """A difference with the ends of its interval."""

    @property
    def mean(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def score(value: float) -> str:
    """A share in 0..1 or a cosine in -1..1 with three decimals and no leading zero: ".708", "−.012", "1.000"."""
    text = f"{abs(value):.3f}"
    sign = _MINUS if value < 0 and float(text) != 0 else ""
    return sign + text.removeprefix("0")


def mark(value: float) -> str:
    """A cosine as an axis names it: ".5", "−.2", "0", "1"."""
    text = f"{abs(value):g}"
    return (_MINUS if value < 0 and text != "0" else "") + (text.removeprefix("0") or "0")


def points(value: float, decimals: int = 1) -> str:
    """A difference of shares in signed points: 0.033 is "+3.3"."""
    text = f"{abs(value) * 100:.{decimals}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def interval(value: _Interval, few: str = "") -> str:
    """A difference with its interval, in points: "+3.3 [2.1, 4.5]".

    Takes two decimals where one would show an end of the interval as zero that is not.

    Args:
        value: the difference.
        few: that the interval comes from too few queries, in words that follow it; empty where it does not.
    """
    ends = (value.mean, value.low, value.high)
    decimals = 2 if any(0 < abs(end) < 0.0005 for end in ends) else 1
    low, high = (points(end, decimals).removeprefix("+") for end in (value.low, value.high))
    return f"{points(value.mean, decimals)} [{low}, {high}]" + (f", {few}" if few else "")


def count(value: int) -> str:
    """A whole number with thousands marked: "1,518"."""
    return f"{value:,}"


def percent(part: float, whole: float = 1.0) -> str:
    """A share as a percentage, with one decimal only below ten: "76%", "3.4%", "under 0.1%"."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "under 0.1%"
    return f"{share:.1f}%" if 0 < share < 9.95 else f"{share:.0f}%"


def dollars(amount: float) -> str:
    """An amount of money, with as many decimals as small ones need: "$12.40", "$0.00", "$0.0031"."""
    return f"${amount:,.2f}" if amount >= 0.995 or amount == 0 else f"${amount:.2g}"


def duration(seconds: float) -> str:
    """A span of time in its two largest units: "8 min 12 s", "0.4 s", "3 h 5 min"."""
    if not math.isfinite(seconds) or seconds < 0:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def rough_duration(seconds: float) -> str:
    """A span of time that is an estimate: "50 s", "4 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def rate(items_a_second: float) -> str:
    """A rate as a number that can be read: "12.0/s", or "3.5/min" where less than one is done in a second."""
    return f"{items_a_second:.1f}/s" if items_a_second >= 1 else f"{items_a_second * 60:.1f}/min"


def size(amount: float) -> str:
    """Bytes in the unit that fits: "91 MB", "1.5 GB"; three digits at most before the point."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if amount < 9.95 and unit != "bytes" else f"{amount:.0f} {unit}"
        amount /= 1_000
    return f"{amount:,.1f} TB"


def amount(number: float) -> str:
    """A large number of things in a few digits: "9.5", "384", "22.7 million", "1.2 billion"."""
    for unit, each in (("billion", 1e9), ("million", 1e6)):
        if number >= each:
            return f"{number / each:.3g} {unit}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def clock(timestamp: str) -> str:
    """An ISO 8601 time in UTC, to the minute: "2026-03-01 09:30 UTC"; other text as it is."""
    date, separator, rest = timestamp.partition("T")
    return f"{date} {rest[:5]} UTC" if separator and rest.endswith(("+00:00", "Z")) else timestamp
