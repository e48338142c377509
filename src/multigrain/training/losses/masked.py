"""InfoNCE that leaves out in-batch negatives that look like further positives."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import all_gather_with_grad, get_rank
from torch import Tensor


class MaskedRankingLoss(MultipleNegativesRankingLoss):
    """Multiple-negatives ranking without likely false negatives, after MultiCSR (arXiv 2310.10962).

    An in-batch negative is left out of a query's softmax where its cosine to the query, or to the query's positive,
    is above the threshold, as the model that is being trained sees it at that step. A row's own negatives stay: the
    audit has judged them.

    Args:
        model: the model to train.
        threshold: cosine above which an in-batch negative is left out.
        scale: 1 / temperature.
        gather_across_devices: take in-batch negatives from all processes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        threshold: float,
        scale: float = 20.0,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, scale=scale, gather_across_devices=gather_across_devices)
        self.threshold = threshold

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: of queries, positives and any columns of negatives, each (batch, dimension).
            labels: not used.
        """
        del labels
        queries, *columns = embeddings
        batch = queries.size(0)
        first = 0
        if self.gather_across_devices:
            columns = [all_gather_with_grad(column) for column in columns]
            first = get_rank() * batch
        documents = torch.cat(columns)
        own = torch.arange(first, first + batch, device=queries.device)
        similarities = self.similarity_fct(queries, documents)
        with torch.no_grad():
            nearest = torch.maximum(similarities, self.similarity_fct(columns[0][own], documents))
            # Column c of row r stands at c · rows + r: a row's own texts share its remainder.
            is_own = torch.arange(documents.size(0), device=queries.device) % columns[0].size(0) == own.unsqueeze(1)
            masked = (nearest > self.threshold) & ~is_own
        scores = (similarities * self.scale).masked_fill(masked, -torch.inf)
        return torch.nn.functional.cross_entropy(scores, own)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "threshold": self.threshold}
