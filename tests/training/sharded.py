"""What each of several processes does in test_sharding.py: train sharded, stop, resume, save."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from pathlib import Path
from typing import Any

from tests.training.graded import config_of, examples
from torch import nn
from torch.distributed.tensor import DTensor

from multigrain.config import TrainingConfig
from multigrain.model.encoder import build_candidate, save_candidate
from multigrain.recipes import recipe
from multigrain.training.processes import is_main_process, leave_together
from multigrain.training.train import train_candidate

RECIPE = recipe("fsdp").training
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulation": 2},
    "ata": {"pooling": "ata"},
    "cached": {"mini_batch_size": 3},
    "lora": {"lora": {"r": 4, "dropout": 0}},
    "recomputed": {"gradient_checkpointing": True},
    "matryoshka": {"matryoshka": [16, 8]},
    "listwise": {"loss": "listmle", "schedule": "listwise"},
    "kept": {"fsdp_config": {"reshard_after_forward": False}},
    # The fsdp recipe's own, but for what its size asks for.
    "recipe": RECIPE.model_dump(include={"prompts", "fsdp_config", "gradient_checkpointing", "temperature"}),
}


class StoppedError(Exception):
    """Plays the machine that goes down, in all processes at the same step."""


def settings_of(name: str, model: Path, *, fsdp: bool) -> TrainingConfig:
    """What is trained under a name."""
    return config_of(base_model=str(model), max_seq_length=32, fsdp=fsdp, **SETTINGS[name])


def held_share() -> float:
    """How much of the weights that are trained this process holds."""
    weights = [each for each in gc.get_objects() if isinstance(each, nn.Parameter) and isinstance(each, DTensor)]
    return sum(each.to_local().numel() for each in weights) / sum(each.numel() for each in weights)


def main(bert: Path, qwen: Path, out: Path) -> None:
    found: dict[str, Any] = {}
    for name in SETTINGS:
        config = settings_of(name, qwen if name == "recipe" else bert, fsdp=True)
        checkpoints, shares = out / f"checkpoints-{name}", list[float]()

        def stop(step: int, *_: Any, shares: list[float] = shares) -> None:
            if step == 5:
                shares.append(held_share())
                raise StoppedError

        with contextlib.suppress(StoppedError):
            cut = build_candidate(config, seed=7)
            train_candidate(cut, examples(), config, name=name, seed=7, checkpoints=checkpoints, on_step=stop)
        gc.collect()
        seen: list[int] = []
        model_again = build_candidate(config, seed=7)
        train_candidate(
            model_again,
            examples(),
            config,
            name=name,
            seed=7,
            checkpoints=checkpoints,
            on_step=lambda step, *_, seen=seen: seen.append(step),  # type: ignore[misc]
        )
        if is_main_process():
            save_candidate(model_again, out / name, config)
            found[name] = {"resumed_with": seen[0], "held": shares[0]}
    if is_main_process():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    leave_together()
