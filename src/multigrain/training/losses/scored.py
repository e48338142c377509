"""Losses that learn from a teacher's scores of a row's passages: KL over the list, margins, graded cross-entropy.

They take the columns query, positive, passage_1 … passage_n, and as labels (batch, 1 + n) the teacher's scores of the
positive and of each passage, on the scale that `training.targets` says. Nothing but its own row's scores is known of a
passage, so other rows give their positives alone as in-batch negatives.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    DistillKLDivLoss,
    MarginMSELoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import all_gather_with_grad, cos_sim, get_rank, pairwise_cos_sim
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


class DistilLoss(MultipleNegativesRankingLoss):
    """Kullback-Leibler divergence between the teacher's distribution over a row's passages and the model's.

    A share of InfoNCE over the positives of the batch keeps queries apart, of which the lists say nothing. The KL term
    is sentence-transformers' `DistillKLDivLoss` without its factor of the squared temperature: with cosines and a
    temperature of .05 that factor is .0025, and the share would be all that counts.

    Args:
        model: the model to train.
        scale: 1 / temperature of the model's cosines.
        teacher_temperature: of the teacher's scores; None for the model's.
        infonce_share: weight of InfoNCE; the KL term has the rest.
        gather_across_devices: take the positives of all processes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        scale: float = 20.0,
        teacher_temperature: float | None = None,
        infonce_share: float = 0.1,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, scale=scale, gather_across_devices=gather_across_devices)
        self.infonce_share = infonce_share
        self.distil = DistillKLDivLoss(
            model,
            similarity_fct=pairwise_cos_sim,
            student_temperature=1 / scale,
            teacher_temperature=teacher_temperature or 1 / scale,
        )

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: of queries, positives and passages, each (batch, dimension).
            labels: (batch, 1 + passages) the teacher's scores, the positive's first.
        """
        value: Tensor = self.distil.compute_loss_from_embeddings(embeddings, labels) * self.scale**2
        if not self.infonce_share:
            return value
        cosines, own = _to_positives(embeddings, gather=self.gather_across_devices)
        return (1 - self.infonce_share) * value + self.infonce_share * cross_entropy(self.scale * cosines, own)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {
            **super().get_config_dict(),
            "teacher_temperature": self.distil.teacher_temperature,
            "infonce_share": self.infonce_share,
        }


class MarginLoss(MarginMSELoss):
    """sentence-transformers' MarginMSE over cosines.

    The teacher's margins of the positive over each passage come on the scale of cosines.

    Args:
        model: the model to train.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__(model, similarity_fct=pairwise_cos_sim)


class GradedLoss(MultipleNegativesRankingLoss):
    """Binary cross-entropy of graded scores, after BiXSE (arXiv 2508.06781) [ours: the threshold, the weights].

    A passage's probability of being an answer is sigmoid((cosine - threshold) / temperature). BiXSE learns a bias;
    here the threshold is a constant that the rows give, so that there is nothing to keep in a checkpoint but the
    model. The positives of other rows have the label 0. A query's terms are summed and divided by the length of its
    list.

    Args:
        model: the model to train.
        threshold: the cosine at which a passage is as likely an answer as not.
        scale: 1 / temperature.
        in_batch: take the positives of other rows as passages of label 0.
        gather_across_devices: take them from all processes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        threshold: float,
        scale: float = 20.0,
        in_batch: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, scale=scale, gather_across_devices=gather_across_devices and in_batch)
        self.threshold = threshold
        self.in_batch = in_batch

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: of queries, positives and passages, each (batch, dimension).
            labels: (batch, 1 + passages) probabilities that each answers, the positive's first.
        """
        queries, *columns = embeddings
        own = torch.stack([pairwise_cos_sim(queries, column) for column in columns], dim=1)
        terms = binary_cross_entropy_with_logits(self._logits(own), labels.to(own.dtype), reduction="none").sum(dim=1)
        if self.in_batch:
            cosines, places = _to_positives(embeddings, gather=self.gather_across_devices)
            others = torch.nn.functional.softplus(self._logits(cosines))
            terms = terms + others.sum(dim=1) - others.gather(1, places.unsqueeze(1)).squeeze(1)
        return terms.mean() / len(columns)

    def _logits(self, cosines: Tensor) -> Tensor:
        return self.scale * (cosines - self.threshold)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "threshold": self.threshold, "in_batch": self.in_batch}


def _to_positives(embeddings: list[Tensor], *, gather: bool) -> tuple[Tensor, Tensor]:
    """Cosines of a batch's queries and all its positives, and the place of each query's own positive.

    Args:
        embeddings: of queries and positives, and more, each (batch, dimension).
        gather: take the positives of all processes.
    """
    queries, positives = embeddings[:2]
    first = 0
    if gather:
        positives = all_gather_with_grad(positives)
        first = get_rank() * queries.size(0)
    return cos_sim(queries, positives), torch.arange(first, first + queries.size(0), device=queries.device)
