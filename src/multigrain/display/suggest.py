"""Suggestions for a name or a path that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


def nearest_name(unknown: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that looks most like the unknown one, whatever its case; None where none does."""
    return next(iter(nearest_names(unknown, names, limit=1, cutoff=cutoff)), None)


def nearest_names(unknown: str, names: Iterable[str], *, limit: int, cutoff: float = 0.6) -> list[str]:
    """Known names that look like the unknown one, whatever their case, the most alike first."""
    by_folded = {name.casefold(): name for name in names}
    return [
        by_folded[name] for name in difflib.get_close_matches(unknown.casefold(), by_folded, n=limit, cutoff=cutoff)
    ]


def did_you_mean(unknown: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """` (did you mean 'x'?)` behind an unknown name; empty where no known name looks like it."""
    nearest = nearest_name(unknown, names, cutoff=cutoff)
    return f" (did you mean {nearest!r}?)" if nearest is not None else ""


def suggestion(unknown: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`did you mean 'x'?` or, where nothing looks like it, `there are a, b, c`."""
    names = sorted(names)
    nearest = nearest_name(unknown, names, cutoff=cutoff)
    return f"did you mean {nearest!r}?" if nearest is not None else f"there are {', '.join(names) or 'none'}"


def near_path(path: Path) -> str:
    """` (did you mean FOLDER/NAME?)` behind a path that is not there; empty where nothing beside it looks like it."""
    try:
        names = [sibling.name for sibling in path.parent.iterdir() if not sibling.name.startswith(".")]
    except OSError:
        return ""
    # Without its ending: that a file is of the same kind makes no name a like one.
    alike = nearest_names(path.stem, {Path(name).stem for name in names}, limit=len(names) or 1, cutoff=0.7)
    nearest = nearest_name(path.name, (name for name in names if Path(name).stem in alike), cutoff=0)
    return f" (did you mean {path.parent / nearest}?)" if nearest is not None else ""
