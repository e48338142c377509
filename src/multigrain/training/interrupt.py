"""Ctrl-C, or a scheduler's SIGTERM, ends training after the step at hand, with a checkpoint of it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Final, Self

from transformers import TrainerCallback

__all__ = ["OrderlyInterrupt"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class OrderlyInterrupt(TrainerCallback):
    """Used around training: the first signal asks for a checkpoint and an end, the second ends at once.

    Signals reach the main thread only, so elsewhere nothing is changed.

    Args:
        listening: False leaves signals as they are.

    Attributes:
        asked: whether a signal has come.
    """

    def __init__(self, *, listening: bool = True) -> None:
        self.listening = listening
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self.listening and threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._on_signal) for each in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the trainer after every optimiser step."""
        if self.asked:
            control.should_save = True
            control.should_training_stop = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
