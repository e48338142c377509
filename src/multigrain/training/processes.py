"""How many processes train together, as torchrun and `accelerate launch` tell each of them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Final

from multigrain.config import TrainingConfig
from multigrain.errors import ConfigError

WAIT_SECONDS: Final = 24 * 3600
"""How long processes wait for one of them: the main one may score rows and embed a corpus alone for hours, and a
process that died ends the others at once by their launcher. The trainer's own limit is half an hour."""


def process_count() -> int:
    """How many processes train one model; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Whether this is the one that writes files and reports."""
    return process_rank() == 0


def as_main_says(values: list[bool]) -> list[bool]:
    """What the main process says, in every process; all of them must call this, and none goes on before it has.

    What lies on the disk may change between two processes' looks at it, and a process that trains while another does
    not waits for ever.

    Args:
        values: what this process would say.
    """
    if process_count() == 1:
        return values
    import torch
    from accelerate import PartialState
    from torch import distributed

    # Connects the processes as the trainer would, who then finds them connected. The trainer's arguments would not do:
    # with `use_cpu` transformers 5 does not hand `ddp_timeout` on.
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    on_cpu = on_cpu or not torch.accelerator.is_available()
    PartialState(cpu=on_cpu, timeout=timedelta(seconds=WAIT_SECONDS))
    said = [values]
    distributed.broadcast_object_list(said)
    return said[0]


def leave_together() -> None:
    """End the processes' connection, when all of them are done; nothing where there is none.

    A process that merely exits takes its connections with it, and the others may abort over that in the last moment.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def check_sharding(config: TrainingConfig) -> None:
    """See that what the config says of sharding is what the launcher started.

    Raises:
        ConfigError: sharding and one process; or sharding that accelerate was told of and the config was not.
    """
    if config.fsdp and process_count() == 1:
        raise ConfigError(
            "training.fsdp shards the model over several processes, and this is one: complete the stages before with "
            "`multigrain audit`, then `torchrun --nproc-per-node 2 -m multigrain train config.yaml`"
        )
    if not config.fsdp and os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true"):
        raise ConfigError(
            "the launcher asks for sharded training (FSDP), and the config does not: set training.fsdp: true, and its "
            "options under training.fsdp_config"
        )
