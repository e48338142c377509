"""Where input lies: a path, or a data set of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from multigrain.display.suggest import nearest_name

__all__ = ["HUB_MARK", "anchored", "is_hub", "near_name"]

HUB_MARK: Final = "hf:"


def is_hub(path: Path) -> bool:
    """Whether a path is a reference to a data set of the hub."""
    return str(path).startswith(HUB_MARK)


def anchored(path: Path, folder: Path) -> Path:
    """The path as seen from a folder: references to the hub stay as they are, unless they begin with a dot."""
    if not is_hub(path):
        # A path from ~ or / stays what it is: joining keeps the right side where that is absolute.
        return folder / path.expanduser()
    name = str(path).removeprefix(HUB_MARK)
    return Path(f"{HUB_MARK}{folder / name}") if name.startswith(("./", "../")) else path


def near_name(path: Path) -> str:
    """A hint at what may have been meant by a path that is not there: ` (did you mean …?)`, or nothing."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return ""
    nearest = nearest_name(path.name, names, cutoff=0.7)
    return f" (did you mean {path.parent / nearest}?)" if nearest else ""
