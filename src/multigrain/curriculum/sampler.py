"""The planned batches as a sentence-transformers batch sampler: the whole run is one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import SequentialSampler


class CurriculumBatchSampler(DefaultBatchSampler):
    """Emits a list of planned batches, once.

    One epoch is the whole run: the trainer tells samplers of a new epoch only through wrappers that a resumed or
    sharded run leaves out, so nothing here depends on it. Resuming skips batches, which costs no encoding.

    With p processes, process j is handed the batches j, p + j, 2p + j and so on.

    Args:
        dataset: the data set that the batches index into.
        batches: indices into it, one list a forward pass.
    """

    def __init__(self, dataset: Any, batches: list[list[int]], batch_size: int, **kwargs: Any) -> None:
        super().__init__(SequentialSampler(dataset), batch_size=batch_size, drop_last=False, **kwargs)
        self.batches = batches
        # With a size set, sharding over processes silently leaves out every batch of another size.
        self.batch_size: int | None = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the planned batches in order."""
        yield from self.batches

    def __len__(self) -> int:
        """How many batches the run has, over all processes."""
        return len(self.batches)


class CurriculumSampling:
    """Makes the sampler when the trainer asks for one. A class at module level: trainers pickle their arguments.

    It serves as both of the trainer's hooks: `batch_sampler` for one data set, `multi_dataset_batch_sampler` for
    several, whose batches then index into all of them one after another.

    Args:
        batches: indices, one list a forward pass.
    """

    def __init__(self, batches: list[list[int]]) -> None:
        self.batches = batches

    def __call__(self, dataset: Any, batch_size: int = 1, **kwargs: Any) -> CurriculumBatchSampler:
        """Build the sampler over a data set; what else the trainer passes and the plan decides is dropped."""
        for decided in ("drop_last", "batch_samplers"):
            kwargs.pop(decided, None)
        return CurriculumBatchSampler(dataset, self.batches, batch_size, **kwargs)
