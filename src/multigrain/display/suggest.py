"""What may have been meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest_name", "suggestion"]


def nearest_name(given: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that looks most like the given one, whatever its case; None where none does."""
    by_folded = {name.casefold(): name for name in known}
    nearest = difflib.get_close_matches(given.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[nearest[0]] if nearest else None


def did_you_mean(given: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """` (did you mean 'x'?)` behind an unknown name; empty where no known name looks like it."""
    nearest = nearest_name(given, known, cutoff=cutoff)
    return f" (did you mean {nearest!r}?)" if nearest is not None else ""


def suggestion(given: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`did you mean 'x'?` or, where nothing looks like the given name, `there are a, b, c`."""
    known = sorted(known)
    nearest = nearest_name(given, known, cutoff=cutoff)
    return f"did you mean {nearest!r}?" if nearest is not None else f"there are {', '.join(known) or 'none'}"
