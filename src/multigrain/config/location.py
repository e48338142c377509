"""Where input lies: a path, or a data set of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["HUB_MARK", "anchored", "is_hub"]

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
