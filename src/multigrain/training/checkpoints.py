"""Which checkpoint an interrupted training resumes from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

__all__ = ["last_complete_checkpoint"]

_NAME: Final = re.compile(r"checkpoint-(\d+)")
_PARTS: Final = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "modules.json")
# The trainer writes its state last: a folder without a whole one was being written when the process died.
_STATE: Final = "trainer_state.json"


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; unfinished ones are removed.

    Args:
        folder: where the trainer keeps its checkpoints; need not exist.
    """
    if not folder.is_dir():
        return None
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    for path in sorted(found, key=lambda each: int(each.name.rsplit("-", 1)[1]), reverse=True):
        if _is_complete(path):
            return path
        shutil.rmtree(path)
    return None


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # With several processes each keeps its own random state.
    has_random_state = any(checkpoint.glob("rng_state*.pth"))
    return has_random_state and all((checkpoint / part).is_file() for part in _PARTS if not part.startswith("rng"))
