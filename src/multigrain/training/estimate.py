"""What a training will take, measured by a few steps of the real thing."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import nn

from multigrain.config import TrainingConfig
from multigrain.records import GradedExample
from multigrain.training.checkpoints import keeps_learning_alone
from multigrain.training.losses.registry import takes_scores
from multigrain.training.train import train_candidate
from multigrain.training.trainers import training_device

_WARM_UP = 1  # steps: the first one allocates and compiles
_MEASURED = 2


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """What a candidate's training takes.

    Attributes:
        candidate: its name.
        steps: of the whole training.
        seconds_a_step: measured.
        seconds: of the whole training, without loading and checkpoints; where queries alone are tuned, with the
            documents that are embedded once before it.
        memory_bytes: most that was held at once: on the GPU where it trains on one, else by the whole process.
        memory_of: "GPU" or "process".
        weights: of the model.
        tuned_weights: that learn.
        checkpoint_bytes: of the two checkpoints that are kept.
        model_bytes: of the saved model.
    """

    candidate: str
    steps: int
    seconds_a_step: float
    seconds: float
    memory_bytes: int
    memory_of: str
    weights: int
    tuned_weights: int
    checkpoint_bytes: int
    model_bytes: int


def estimate_training(
    model: SentenceTransformer | CrossEncoder,
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    *,
    name: str,
    seed: int,
    prepare: Callable[[Sequence[GradedExample]], None] | None = None,
    folder: nn.Module | None = None,
) -> TrainingEstimate:
    """Take a few steps with a model and add up what all of them will take. The model is changed by them.

    Args:
        model: as `build_candidate` or `build_reranker` made it.
        examples: graded rows.
        config: the candidate's settings.
        name: the candidate's name.
        seed: of the row order.
        prepare: embeds what training reads of rows, where that is done once before it; timed with a few rows.
        folder: what the saved folder holds, where that is more than the model.

    Raises:
        ModelError: as `train_candidate`.
    """
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = list((folder or model).parameters())
    weights_bytes, tuned_bytes = _bytes(weights), _bytes(tuned)
    steps = config.steps_for(len(examples))
    few = config.model_copy(
        update={"steps": min(steps, _WARM_UP + _MEASURED), "checkpoint_every": 10**9, "report_to": []}
    )
    rows, prepared = examples, 0.0
    if prepare is not None:
        sample, started = _spread(examples, config, few.batch_size * few.steps_for(len(examples))), time.perf_counter()
        prepare(sample)
        # Rows that share documents embed fewer: at most this.
        prepared = (time.perf_counter() - started) * len(examples) / max(1, len(sample))
        rows = sample or examples
    times = [time.perf_counter()]
    device = training_device(config, model)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as kept:
        train_candidate(
            model,
            rows,
            few,
            name=name,
            seed=seed,
            checkpoints=Path(kept) / "checkpoints",
            on_step=lambda *_: times.append(time.perf_counter()),
        )
    spans = [after - before for before, after in itertools.pairwise(times)]
    measured = spans[_WARM_UP:] or spans
    a_step = sum(measured) / len(measured)
    saved = tuned_bytes if config.adapters == "apart" and config.lora is not None else weights_bytes
    return TrainingEstimate(
        candidate=name,
        steps=steps,
        seconds_a_step=round(a_step, 4),
        seconds=round(a_step * steps + prepared, 1),
        memory_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else _peak_of_process(),
        memory_of="GPU" if on_gpu else "process",
        weights=sum(parameter.numel() for parameter in weights),
        tuned_weights=sum(parameter.numel() for parameter in tuned),
        # Two checkpoints of weights that learn, each with the optimiser's two moments.
        checkpoint_bytes=2
        * (tuned_bytes if config.lora is not None or keeps_learning_alone(config) else weights_bytes)
        + 4 * tuned_bytes,
        model_bytes=saved,
    )


def _spread(examples: Sequence[GradedExample], config: TrainingConfig, count: int) -> list[GradedExample]:
    """Rows from all over the data set, twice as many as are needed: not all that share a document fit into a batch.

    Where a teacher's scores are learned from, only rows that have them.
    """
    step = max(1, len(examples) // max(1, 2 * count))
    rows = [examples[place] for place in range(0, len(examples), step)]
    return [row for row in rows if row.scale is not None] if takes_scores(config) else rows


def _bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _peak_of_process() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
