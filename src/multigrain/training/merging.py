"""Averaging tuned weights with the base model's, against forgetting (WiSE-FT, arXiv 2109.01903)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from multigrain.config import Merge
from multigrain.errors import ModelError

AUTOMATIC_SHARES: Final = (0.25, 0.5, 0.75, 1.0)
"""Tuned shares that `merge: auto` lets validation queries choose from."""

_LORA_DOWN: Final = (".lora_A.", ".lora_embedding_A.")
_LORA_UP: Final = (".lora_B.", ".lora_embedding_B.")
_LORA_OTHER: Final = (".lora_magnitude_vector", ".lora_E.", ".lora_ranknum.")


def merge_shares(merge: Merge, *, identity: bool = False) -> tuple[float, ...]:
    """The tuned shares to choose from; one alone leaves nothing to choose.

    Args:
        merge: as the config says.
        identity: whether auto may choose to keep nothing of what was tuned.
    """
    if merge == "auto":
        return (0.0, *AUTOMATIC_SHARES) if identity else AUTOMATIC_SHARES
    shares: Sequence[float] = merge if isinstance(merge, list) else [merge]
    return tuple(dict.fromkeys(shares))


class WeightMerge:
    """Puts (1 − share) · base + share · tuned into a model, for any share, any number of times.

    Of a LoRA adapter the up-projection is scaled by the share and the down-projection kept: W + share · B·A is the
    average of base and tuned exactly, which an average of the two factors would not be.

    Args:
        model: before it is tuned. Only weights that will be trained are kept.

    Raises:
        ModelError: the model has adapters that no scaling averages (DoRA, AdaLoRA), or that have been trained before.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self.base: dict[str, Tensor] = {
            name: weight.detach().cpu().clone() for name, weight in model.named_parameters() if weight.requires_grad
        }
        if not self.base:
            raise ModelError("training.merge: no weight of the model is trained, so there is nothing to merge")
        for name, weight in self.base.items():
            if any(part in f"{name}." for part in _LORA_OTHER):
                raise ModelError(
                    f"training.merge: {name} belongs to an adapter that cannot be averaged with its base (DoRA or "
                    "AdaLoRA); use plain LoRA, or leave training.merge out"
                )
            if any(part in name for part in _LORA_UP) and bool(weight.any()):
                raise ModelError(
                    f"training.merge: the adapter weight {name} was trained before; merge that adapter into its base "
                    "first, or leave training.merge out"
                )
        self.tuned: dict[str, Tensor] | None = None

    @torch.no_grad()
    def apply(self, model: SentenceTransformer, share: float) -> None:
        """Set a model's weights to the average.

        Args:
            model: the model this was made of, tuned by now.
            share: of the tuned weights: 0 is the base model, 1 the tuned one.

        Raises:
            ModelError: the model's weights are no longer those this was made of.
        """
        weights = dict(model.named_parameters())
        lost = self.base.keys() - weights.keys()
        if lost:
            raise ModelError(f"training.merge: the tuned model has no weight {min(lost)}, which its base has")
        if self.tuned is None:
            self.tuned = {name: weights[name].detach().cpu().clone() for name in self.base}
        for name, tuned in self.tuned.items():
            weights[name].copy_(self._average(name, tuned, share))

    def _average(self, name: str, tuned: Tensor, share: float) -> Tensor:
        if share == 1 or any(part in name for part in _LORA_DOWN):
            return tuned
        if any(part in name for part in _LORA_UP):
            return tuned * share
        # Average in float32: bf16 weights would lose most of a small difference.
        return torch.lerp(self.base[name].float(), tuned.float(), share).to(tuned.dtype)
