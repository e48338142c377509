"""Our own losses, on sentence-transformers' base class: InfoNCE with a mask, two over lists, gradients cached or not.

Losses over lists take the columns query, positive, negative_1 … negative_4, level 1 (easiest) first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import CachedLossMixin
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import all_gather_with_grad, cos_sim, get_rank
from torch import Tensor, nn
from torch.nn.functional import normalize


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
        documents, own, is_own = _documents(queries, columns, gather=self.gather_across_devices)
        similarities = self.similarity_fct(queries, documents)
        with torch.no_grad():
            nearest = torch.maximum(similarities, self.similarity_fct(documents[own], documents))
            masked = (nearest > self.threshold) & ~is_own
        scores = (similarities * self.scale).masked_fill(masked, -torch.inf)
        return torch.nn.functional.cross_entropy(scores, own)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "threshold": self.threshold}


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
        own = self.scale * torch.einsum("bd,bld->bl", normalize(queries, dim=-1), normalize(ordered, dim=-1))
        rest = own[:, :0]
        if self.in_batch:
            documents, _, is_own = _documents(queries, best_first, gather=self.gather_across_devices)
            rest = (self.scale * cos_sim(queries, documents)).masked_fill(is_own, -torch.inf)
        # log Σ exp over what is not yet drawn, from the last place to the first
        below = torch.logsumexp(rest, dim=1, keepdim=True)
        remaining = torch.logcumsumexp(torch.cat([below, own.flip(1)], dim=1), dim=1)[:, 1:].flip(1)
        places = own.size(1) - (0 if self.in_batch else 1)  # the last of a closed list is certain
        return (remaining - own)[:, :places].mean()

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
    variances = (centred_first.square().sum() + centred_second.square().sum()) / degrees
    shared = torch.linalg.svdvals(centred_first @ centred_second.T).sum() / degrees
    distance: Tensor = (mean_first - mean_second).square().sum() + variances - 2 * shared
    return distance


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


def _documents(queries: Tensor, columns: Sequence[Tensor], *, gather: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The texts that a batch's queries are compared with, column after column; the rows they own; and a mask of those.

    Column c of row r stands at c · rows + r: a row's own texts share its remainder.
    """
    first = 0
    if gather:
        columns = [all_gather_with_grad(column) for column in columns]
        first = get_rank() * queries.size(0)
    documents = torch.cat(list(columns))
    own = torch.arange(first, first + queries.size(0), device=queries.device)
    is_own = torch.arange(documents.size(0), device=queries.device) % columns[0].size(0) == own.unsqueeze(1)
    return documents, own, is_own
