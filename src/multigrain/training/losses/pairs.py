"""Losses of rerankers: sentence-transformers' own, fed with rows as they lie in our data sets.

A row is query, positive, passage_1 … passage_n, and as labels (1 + n) the grade or the teacher's score of the positive
and of each passage; sentence-transformers takes pairs, or lists of passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss, ListNetLoss
from torch import Tensor, nn


class PairLoss(BinaryCrossEntropyLoss):
    """Binary cross-entropy over the pairs of all rows; labels are 0 to 1."""

    def forward(self, inputs: Any, labels: Any, prompt: str | None = None, task: str | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            inputs: queries, positives and columns of passages, each as long as the batch.
            labels: for each row (1 + passages), the positive's first.
            prompt: put before every pair.
            task: handed on to the model.
        """
        queries, lists = _lists(inputs)
        pairs = [(query, passage) for query, passages in zip(queries, lists, strict=True) for passage in passages]
        left, right = ([pair[side] for pair in pairs] for side in (0, 1))
        return super().forward([left, right], torch.cat(list(labels)), prompt=prompt, task=task)


class ListLoss(ListNetLoss):
    """ListNet: cross-entropy between the softmax of a row's labels and that of its scores.

    Args:
        model: the model to train.
        temperature: the labels are divided by it.
    """

    def __init__(self, model: CrossEncoder, *, temperature: float = 1.0) -> None:
        super().__init__(model, mini_batch_size=_mini_batch_size(model))
        self.temperature = temperature

    def forward(self, inputs: Any, labels: Any, prompt: str | None = None, task: str | None = None) -> Tensor:
        """The loss of one batch; see `PairLoss.forward`."""
        sharper = [label / self.temperature for label in labels]
        return super().forward(list(_lists(inputs)), sharper, prompt=prompt, task=task)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "temperature": self.temperature}


class LambdaListLoss(LambdaLoss):
    """LambdaLoss (NDCG-Loss2++) over the row's passages, whose labels are grades from 0."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__(model, mini_batch_size=_mini_batch_size(model))

    def forward(self, inputs: Any, labels: Any, prompt: str | None = None, task: str | None = None) -> Tensor:
        """The loss of one batch; see `PairLoss.forward`."""
        return super().forward(list(_lists(inputs)), list(labels), prompt=prompt, task=task)


@contextmanager
def without_shift(model: nn.Module, loss: nn.Module | dict[str, nn.Module]) -> Iterator[None]:
    """Leave the bias of the score as it is for a while, where the loss compares the scores of a list.

    What is added to all of them changes nothing for it. All that the bias would ever learn is rounding, which the
    optimiser would blow up to steps of its full size.

    Args:
        model: a reranker; of others nothing is left.
        loss: what it is trained by.
    """
    scores = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == 1]
    bias = scores[-1].bias if scores and isinstance(loss, (ListLoss, LambdaListLoss)) else None
    learns = bias is not None and bias.requires_grad
    if bias is not None and learns:
        bias.requires_grad_(False)
    try:
        yield
    finally:
        if bias is not None and learns:
            bias.requires_grad_(True)


def _mini_batch_size(model: CrossEncoder) -> int | None:
    """Pairs that are scored at once: on a CPU all of a step, for `padding_cut` to part by length; else the default."""
    return -1 if model.device.type == "cpu" else None


def _lists(inputs: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The queries, and for each its positive and passages."""
    queries, *columns = inputs
    return list(queries), [list(row) for row in zip(*columns, strict=True)]
