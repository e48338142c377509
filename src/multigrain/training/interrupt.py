"""Ctrl-C, or a scheduler's SIGTERM, ends training after the step at hand, with a checkpoint of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Self

import torch
from torch import distributed
from transformers import TrainerCallback

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class OrderlyInterrupt(TrainerCallback):
    """Used around training: the first signal asks for a checkpoint and an end, the second ends at once.

    Signals reach the main thread only, so elsewhere nothing is changed. Several processes hear of a signal at
    different steps, or not at all: they tell each other after every step, and end together. A launcher passes signals
    on that the terminal has sent already, so there the second one is not taken for impatience.

    Args:
        processes: that train together.
        on_first: called once, at the first signal: what follows takes as long as a step.

    Attributes:
        requested: whether a signal has come.
    """

    def __init__(self, *, processes: int = 1, on_first: Callable[[], None] | None = None) -> None:
        self.processes = processes
        self.on_first = on_first
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the trainer after every optimiser step."""
        if self.processes > 1:
            requested = torch.tensor(int(self.requested), device=args.device)
            distributed.all_reduce(requested, op=distributed.ReduceOp.MAX)
            self.requested = bool(requested)
        if self.requested:
            control.should_save = True
            control.should_training_stop = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and self.processes == 1:
            raise KeyboardInterrupt
        if not self.requested and self.on_first is not None:
            self.on_first()
        self.requested = True
