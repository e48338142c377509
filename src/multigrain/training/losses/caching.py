"""Gradient caching for our own losses: a batch of any size in the memory of one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import CachedLossMixin
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn


class GradientCachedLoss(CachedLossMixin, nn.Module):
    """Computes a loss from embeddings made a few texts at a time (GradCache, arXiv 2101.06983).

    Texts are embedded once without gradients, the loss is computed and its gradients by embedding are kept, and texts
    are embedded again to pass those on. Loss and gradients are those of the whole batch.

    Args:
        model: the model to train.
        loss: one that computes from embeddings, such as `MaskedRankingLoss`.
        mini_batch_size: texts a forward pass.
    """

    def __init__(self, model: SentenceTransformer, loss: MultipleNegativesRankingLoss, mini_batch_size: int) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.mini_batch_size = mini_batch_size

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of the whole batch.

        Args:
            reps: for each column its embeddings, mini-batch after mini-batch.
            labels: passed on.
            with_backward: also work out the gradients by embedding.
        """
        value = self.loss.compute_loss_from_embeddings([torch.cat(column) for column in reps], labels)  # type: ignore[arg-type]
        if with_backward:
            value.backward()  # type: ignore[no-untyped-call]
            value = value.detach()
        return value

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss; its backward pass embeds the texts again."""
        value: Tensor = self.forward_cached(sentence_features, labels)
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {
            "loss": type(self.loss).__name__,
            **self.loss.get_config_dict(),
            "mini_batch_size": self.mini_batch_size,
        }
