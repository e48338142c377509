"""The planned batches as a sentence-transformers batch sampler: the whole run is one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import SequentialSampler

__all__ = ["CurriculumBatchSampler", "CurriculumSampling"]


class CurriculumBatchSampler(DefaultBatchSampler):
    """Emits a list of planned batches, once.

    One epoch is the whole run: the trainer tells samplers of a new epoch only through wrappers that a resumed or
    sharded run leaves out, so nothing here depends on it. Resuming skips batches, which costs no encoding.

    Args:
        dataset: the long-form data set.
        batches: indices into it, one list a step.
        batch_size: as the trainer asks; the planned batches have their own.
    """

    def __init__(self, dataset: Any, batches: list[list[int]], batch_size: int, **kwargs: Any) -> None:
        super().__init__(SequentialSampler(dataset), batch_size=batch_size, drop_last=False, **kwargs)
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the planned batches in order."""
        yield from self.batches

    def __len__(self) -> int:
        """How many batches, and so optimiser steps, the run has."""
        return len(self.batches)


class CurriculumSampling:
    """Makes the sampler when the trainer asks for one. A class at module level: trainers pickle their arguments.

    Args:
        batches: indices into the long form, one list a step.
    """

    def __init__(self, batches: list[list[int]]) -> None:
        self.batches = batches

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> CurriculumBatchSampler:
        """Build the sampler over a data set; what else the trainer passes goes to its base class."""
        del drop_last  # the plan decides how large every batch is
        return CurriculumBatchSampler(dataset, self.batches, batch_size, **kwargs)
