"""What a training run leaves for the report: settings, loss, learning rate and level at every step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from multigrain.curriculum.schedule import Boundary
from multigrain.storage.files import atomic_write
from multigrain.training.curves import SimilarityCurves


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step.

    Attributes:
        step: 1 for the first.
        loss: of the step's batch.
        learning_rate: that the step used.
        level: of all its negatives; None where rows drew their own, or there were none.
        source: that its rows are from: graded, or a set that is mixed in.
    """

    step: int
    loss: float
    learning_rate: float
    level: int | None
    source: str = "graded"


NoticeName = Literal[
    "weights hardly moved",
    "vectors equal the base's",
    "collapsed",
    "loss at its floor",
    "validation fell",
    "similarity fell, margins grew",
]


@dataclass(frozen=True)
class Notice:
    """What a training shows of itself.

    Attributes:
        name: which of the things that are looked for.
        warns: whether something may be wrong; else it is normal and only said.
        words: what was measured, and what to do.
    """

    name: NoticeName
    warns: bool
    words: str


@dataclass(frozen=True)
class TrainingLog:
    """A candidate's training, as `training_log.json` holds it.

    Attributes:
        rows: of all sources.
        history: every step.
        boundaries: where the level changes; empty where steps have no one level.
        loss: its name.
        accumulation: parts that a step's batch was cut into.
        processes: that trained together.
        sources: rows of each source.
        merged: share of the tuned weights in the average; None where nothing was merged.
        kept_step: the step whose weights were kept, where validation queries chose one; else None.
        validation: nDCG@10 of the validation queries by the step after which they were asked, 0 to 1.
        rates: the best of these by the peak learning rate, where several were tried.
        ranks: the same by the rank of a query adapter.
        keep: whether the weights that answered validation queries best were to be kept, or the last ones.
        weights_moved: length of the change of the weights that learn, relative to their length, in the model that is
            saved; None where it was not measured.
        lengths: vector lengths that were trained at once; 0 for the whole alone.
        curves: similarities on a sample that stays the same; None where there is none.
        notices: what the training shows of itself.
    """

    candidate: str
    pooling: str
    schedule: str
    steps: int
    batch_size: int
    learning_rate: float
    temperature: float
    precision: str
    rows: int
    history: tuple[TrainingStep, ...]
    boundaries: tuple[Boundary, ...]
    seconds: float
    loss: str = "infonce"
    accumulation: int = 1
    processes: int = 1
    sources: dict[str, int] = field(default_factory=dict)
    merged: float | None = None
    kept_step: int | None = None
    validation: dict[int, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    ranks: dict[str, float] = field(default_factory=dict)
    keep: str = "best"
    weights_moved: float | None = None
    lengths: int = 0
    curves: SimilarityCurves | None = None
    notices: tuple[Notice, ...] = ()

    def save(self, path: Path) -> None:
        """Write the log as JSON."""
        atomic_write(path, json.dumps(asdict(self), indent=2))


def read_log(path: Path) -> TrainingLog:
    """A log as `TrainingLog.save` wrote it."""
    return TypeAdapter(TrainingLog).validate_json(path.read_bytes())
