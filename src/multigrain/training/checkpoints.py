"""Which checkpoint an interrupted training resumes from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from multigrain.config import TrainingConfig

_NAME: Final = re.compile(r"checkpoint-(\d+)")
_PARTS: Final = ("optimizer.pt", "scheduler.pt", "modules.json")
_SHARDED_PARTS: Final = ("optimizer.bin", "scheduler.pt", "pytorch_model_fsdp.bin")
LEARNING: Final = "learning.safetensors"
"""What holds the weights that learn, where the others are left out of checkpoints."""
_LEARNING_PARTS: Final = ("optimizer.pt", "scheduler.pt", LEARNING)
# The trainer writes its state last: a folder without a whole one was being written when the process died.
_STATE: Final = "trainer_state.json"


def keeps_learning_alone(config: TrainingConfig) -> bool:
    """Whether a candidate's checkpoints hold the weights that learn, and nothing of those beside them."""
    return config.side == "query" or (config.kind == "reranker" and config.lora is not None)


def last_complete_checkpoint(
    folder: Path,
    *,
    processes: int = 1,
    remove: bool = True,
    sharded: bool = False,
    learning: bool = False,
    parts: Collection[str] | None = None,
) -> Path | None:
    """The newest checkpoint that was written to its end; unfinished ones are removed.

    Args:
        folder: where the trainer keeps its checkpoints; need not exist.
        processes: that train together, each of which keeps its own random state.
        remove: whether this process is the one to remove unfinished ones.
        sharded: whether training is (`fsdp`): its checkpoints are of other files.
        learning: whether checkpoints hold the weights that learn alone (`side: query`, a reranker's LoRA).
        parts: the files that a whole one has beside the trainer's state; None for those of an embedding model.
    """
    if not folder.is_dir():
        return None
    parts = parts or (_SHARDED_PARTS if sharded else _LEARNING_PARTS if learning else _PARTS)
    numbered = {int(name[1]): path for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))}
    for _, path in sorted(numbered.items(), reverse=True):
        if _is_complete(path, processes, parts):
            return path
        if remove:
            shutil.rmtree(path)
    return None


def abandoned_checkpoints(folder: Path, current: Collection[str]) -> list[Path]:
    """Folders of interrupted trainings that no candidate of the config goes on from.

    Args:
        folder: the run's checkpoints; need not exist.
        current: what the names of the candidates' own folders begin with.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(tuple(current)))


def _is_complete(checkpoint: Path, processes: int, parts: Collection[str]) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Each of several processes writes its own, and the others may be later than the one that writes the rest. A run
    # that goes on with another number of processes has no states of its own to find.
    written = {path.name for path in checkpoint.glob("rng_state*.pth")}
    expected = {f"rng_state_{rank}.pth" for rank in range(processes)}
    has_random_state = "rng_state.pth" in written or expected <= written
    return has_random_state and all((checkpoint / part).is_file() for part in parts)
