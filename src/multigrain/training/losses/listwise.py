"""Losses that rank a query's positive and its four negatives as one list.

Each takes the columns query, positive, negative_1 … negative_4, level 1 (easiest) first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import all_gather_with_grad, cos_sim, get_rank
from torch import Tensor


class ListMLELoss(MultipleNegativesRankingLoss):
    """Likelihood of the order positive > level 4 > … > level 1 under a Plackett-Luce model (ListMLE; Xia et al. 2008).

    The order is drawn text by text, each by a softmax over those not yet drawn. With `in_batch`, the texts of other
    rows stand at the end of every list, in no order: the first factor is then InfoNCE with all negatives.

    Args:
        model: the model to train.
        scale: 1 / temperature.
        in_batch: take the texts of other rows as further negatives.
        gather_across_devices: take them from all processes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        scale: float = 20.0,
        in_batch: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, scale=scale, gather_across_devices=gather_across_devices and in_batch)
        self.in_batch = in_batch

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The loss of one batch; `embeddings` are those of the columns, each (batch, dimension)."""
        del labels
        queries, positives, *negatives = embeddings
        best_first = [positives, *reversed(negatives)]
        ordered = torch.stack(best_first, dim=1)
        own = self.scale * torch.einsum("bd,bld->bl", _unit(queries), _unit(ordered))
        rest = self._others(queries, best_first) if self.in_batch else own[:, :0]
        # log Σ exp over what is not yet drawn, from the last place to the first
        below = torch.logsumexp(rest, dim=1, keepdim=True)
        remaining = torch.logcumsumexp(torch.cat([below, own.flip(1)], dim=1), dim=1)[:, 1:].flip(1)
        places = own.size(1) - (0 if self.in_batch else 1)  # the last of a closed list is certain
        return (remaining - own)[:, :places].mean()

    def _others(self, queries: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """Scores of other rows' texts; the row's own are left out."""
        batch, first = queries.size(0), 0
        if self.gather_across_devices:
            columns = [all_gather_with_grad(column) for column in columns]
            first = get_rank() * batch
        scores = self.scale * cos_sim(queries, torch.cat(list(columns)))
        own = torch.arange(first, first + batch, device=queries.device).unsqueeze(1)
        is_own = torch.arange(scores.size(1), device=queries.device) % columns[0].size(0) == own
        others: Tensor = scores.masked_fill(is_own, -torch.inf)
        return others

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "in_batch": self.in_batch}


class WassersteinLoss(MultipleNegativesRankingLoss):
    """Squared 2-Wasserstein distance between predicted and graded relevance, after SyCL (arXiv 2503.23239).

    Every query scores all texts of the batch; softmax turns scores, and grades, into rows of two matrices. Each is
    taken as draws from a Gaussian, and the distance between the two Gaussians is the loss. Texts of other rows have
    grade 0. The grades' scale is SyCL's (3 to 0); which level has which grade is ours.

    Args:
        model: the model to train.
        grades: of the positive and of levels 4 to 1, best first.
        scale: 1 / temperature of the predicted scores.
        gather_across_devices: take the batch over all processes, statistics included.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        grades: Sequence[float],
        scale: float = 20.0,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, scale=scale, gather_across_devices=gather_across_devices)
        self.grades = tuple(grades)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The loss of one batch; `embeddings` are those of the columns, each (batch, dimension)."""
        del labels
        if self.gather_across_devices:
            # Means and covariances are of the whole batch, so that every process computes the whole loss.
            embeddings = [all_gather_with_grad(column) for column in embeddings]
        queries, positives, *negatives = embeddings
        best_first = [positives, *reversed(negatives)]
        predicted = torch.softmax(self.scale * cos_sim(queries, torch.cat(best_first)).double(), dim=1)
        eye = torch.eye(queries.size(0), dtype=torch.float64, device=queries.device)
        graded = torch.softmax(torch.cat([grade * eye for grade in self.grades], dim=1), dim=1)
        return squared_wasserstein(predicted, graded).to(queries.dtype)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "grades": self.grades}


def squared_wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between the Gaussians fitted to two samples.

    |m₁ − m₂|² + Tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½). With centred samples X, Y of n rows, the last trace is the sum of the
    singular values of X Yᵀ / (n − 1) (after arXiv 2009.14075), whose gradient exists where a matrix square root's
    does not.

    Args:
        first: (n, features).
        second: (n, features).

    Returns:
        A scalar of at least 0, up to rounding.
    """
    mean_first, mean_second = first.mean(dim=0), second.mean(dim=0)
    centred_first, centred_second = first - mean_first, second - mean_second
    degrees = max(1, first.size(0) - 1)
    spread = (centred_first.square().sum() + centred_second.square().sum()) / degrees
    shared = torch.linalg.svdvals(centred_first @ centred_second.T).sum() / degrees
    distance: Tensor = (mean_first - mean_second).square().sum() + spread - 2 * shared
    return distance


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
