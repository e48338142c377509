"""How far training moved the weights."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

_SAMPLED: Final = 1_000_000  # numbers, of all weights together


class WeightsBefore:
    """Remembers a sample of a model's weights that learn: every so many numbers of each.

    Args:
        model: before it is tuned.
    """

    def __init__(self, model: nn.Module) -> None:
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        # An odd stride meets every column of a matrix in turn.
        self._stride = max(1, sum(weight.numel() for weight in learning) // _SAMPLED) | 1
        self._before = self._sampled(model)

    def moved(self, model: nn.Module) -> float | None:
        """Length of the change, relative to the length of the weights; None where no weight is there to compare.

        Args:
            model: the same one, tuned.
        """
        now = self._sampled(model)
        shared = [name for name in self._before if name in now and now[name].shape == self._before[name].shape]
        if not shared:
            return None
        change = sum(float((now[name] - self._before[name]).square().sum()) for name in shared)
        length = sum(float(self._before[name].square().sum()) for name in shared)
        return float((change / max(length, 1e-30)) ** 0.5)

    def _sampled(self, model: nn.Module) -> dict[str, Tensor]:
        return {
            name: weight.detach().reshape(-1)[:: self._stride].to("cpu", torch.float64, copy=True)
            for name, weight in model.named_parameters()
            if weight.requires_grad and weight.device.type != "meta"
        }
