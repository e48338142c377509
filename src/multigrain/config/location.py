"""Where input lies: a path, or a data set of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HUB_MARK: Final = "hf:"


def is_hub(path: Path) -> bool:
    """Whether a path is a reference to a data set of the hub."""
    return str(path).startswith(HUB_MARK)
