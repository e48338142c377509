"""Which levels a step trains on: pure functions of the optimiser step.

The paper trains coarse to fine, level 1 to 4 (its Figure 1); four equal quarters are our reading. Every schedule
of its ablation is here, since the order between them is the paper's most checkable claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from multigrain.config import PhaseConfig, ScheduleName
from multigrain.records import LEVELS, Level

LevelWeights = tuple[float, float, float, float]
"""How often each level is trained on, 1 to 4; they sum to 1."""

_EVEN: Final[LevelWeights] = (0.25, 0.25, 0.25, 0.25)


@dataclass(frozen=True)
class LevelSchedule:
    """Which levels a step trains on.

    Attributes:
        weights: maps an optimiser step (0-based) to the weight of each level.
    """

    weights: Callable[[int], LevelWeights]

    def __call__(self, step: int) -> Level | None:
        """The level of all rows of a step; None where each row draws its own by the step's weights."""
        weights = self.weights(step)
        return LEVELS[weights.index(1.0)] if 1.0 in weights else None


@dataclass(frozen=True)
class Boundary:
    """The first step, from 1, that trains on a level."""

    step: int
    level: int


@dataclass(frozen=True)
class StepRange:
    """Steps in a row that share their weights.

    Attributes:
        start: its first step.
        stop: the step after its last.
        weights: of the levels.
    """

    start: int
    stop: int
    weights: LevelWeights


def level_schedule(name: ScheduleName, steps: int, *, seed: int, phases: Sequence[PhaseConfig] = ()) -> LevelSchedule:
    """The schedule of this name over a run of so many steps.

    Args:
        name: coarse-to-fine (1→4 in equal parts), reverse (4→1), random (one level a step, drawn evenly),
            mixed (each row draws its own), cumulative (level 1, then 1 and 2, and so on, in equal parts),
            fixed-1 … fixed-4, custom (as `phases` say); listwise and in-batch have no levels over time and count
            as mixed.
        steps: optimiser steps of the whole run.
        seed: of the random schedule.
        phases: of a custom schedule.

    Raises:
        ValueError: the name is no schedule, or a custom one has no phases.
    """
    if name == "coarse-to-fine":
        return LevelSchedule(lambda step: _only(LEVELS[_part(step, steps)]))
    if name == "reverse":
        return LevelSchedule(lambda step: _only(LEVELS[len(LEVELS) - 1 - _part(step, steps)]))
    if name == "random":
        return LevelSchedule(lambda step: _only(random.Random(f"{seed}:{step}").choice(LEVELS)))
    if name == "cumulative":
        return LevelSchedule(lambda step: _normal({int(level): 1.0 for level in LEVELS[: _part(step, steps) + 1]}))
    if name in ("mixed", "in-batch", "listwise"):
        return LevelSchedule(lambda _: _EVEN)
    if name.startswith("fixed-"):
        fixed = _only(Level(int(name.removeprefix("fixed-"))))
        return LevelSchedule(lambda _: fixed)
    if name == "custom" and phases:
        ends = [(phase.until * steps, _normal(phase.levels)) for phase in phases]
        return LevelSchedule(lambda step: next((weights for end, weights in ends if step < end), ends[-1][1]))
    raise ValueError(f"unknown schedule {name!r}")


def step_ranges(schedule: LevelSchedule, steps: int) -> list[StepRange]:
    """The run cut where the weights change."""
    starts = [step for step in range(steps) if step == 0 or schedule.weights(step) != schedule.weights(step - 1)]
    return [StepRange(start, stop, schedule.weights(start)) for start, stop in pairwise([*starts, steps])]


def boundaries(schedule: LevelSchedule, steps: int) -> list[Boundary]:
    """Where the level changes, the first step included; empty for schedules with steps that have no one level."""
    levels = [(part.start + 1, schedule(part.start)) for part in step_ranges(schedule, steps)]
    changes = [Boundary(step, int(level)) for step, level in levels if level is not None]
    return changes if len(changes) == len(levels) else []


def _part(step: int, steps: int) -> int:
    """Which of four parts, as equal as whole steps allow, a step falls in; a step past the end is in the last."""
    return min(step * len(LEVELS) // steps, len(LEVELS) - 1)


def _only(level: Level) -> LevelWeights:
    return _normal({int(level): 1.0})


def _normal(weights: dict[int, float]) -> LevelWeights:
    total = sum(weights.values())
    first, second, third, fourth = (weights.get(int(level), 0.0) / total for level in LEVELS)
    return first, second, third, fourth
