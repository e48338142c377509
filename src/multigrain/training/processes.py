"""How many processes train together, as torchrun and `accelerate launch` tell each of them."""

from __future__ import annotations

import os

__all__ = ["is_main_process", "process_count", "process_rank"]


def process_count() -> int:
    """How many processes train one model; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Whether this is the one that writes files and reports."""
    return process_rank() == 0
