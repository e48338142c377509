"""Which level a step trains on: pure functions of the optimiser step.

The paper trains coarse to fine, level 1 to 4 (its Figure 1); four equal quarters are our reading. Every schedule
of its ablation is here, since the order between them is the paper's most checkable claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from multigrain.config import ScheduleName
from multigrain.records import LEVELS, Level

__all__ = ["Boundary", "LevelSchedule", "boundaries", "level_schedule"]

LevelSchedule = Callable[[int], Level | None]
"""Maps an optimiser step (0-based) to the level of all its rows; None where each row draws its own level."""


@dataclass(frozen=True)
class Boundary:
    """The first step of a stretch that trains on one level."""

    step: int
    level: Level


def level_schedule(name: ScheduleName, steps: int, *, seed: int) -> LevelSchedule:
    """The schedule of this name over a run of so many steps.

    Args:
        name: coarse-to-fine (1→4 in equal parts), reverse (4→1), random (one level a step, drawn evenly),
            mixed (each row draws its own), fixed-1 … fixed-4; in-batch has no level and counts as mixed.
        steps: optimiser steps of the whole run.
        seed: of the random schedule.

    Raises:
        ValueError: the name is no schedule.
    """
    if name == "coarse-to-fine":
        return lambda step: LEVELS[_part(step, steps)]
    if name == "reverse":
        return lambda step: LEVELS[len(LEVELS) - 1 - _part(step, steps)]
    if name == "random":
        return lambda step: random.Random(f"{seed}:{step}").choice(LEVELS)
    if name in ("mixed", "in-batch"):
        return lambda _: None
    if name.startswith("fixed-"):
        fixed = Level(int(name.removeprefix("fixed-")))
        return lambda _: fixed
    raise ValueError(f"unknown schedule {name!r}")


def boundaries(schedule: LevelSchedule, steps: int) -> list[Boundary]:
    """Where the level changes, the first step included; empty for schedules without a level a step."""
    found: list[Boundary] = []
    for step in range(steps):
        level = schedule(step)
        if level is not None and (not found or found[-1].level != level):
            found.append(Boundary(step, level))
    return found


def _part(step: int, steps: int) -> int:
    """Which of four parts, as equal as whole steps allow, a step falls in; a step past the end is in the last."""
    return min(step * len(LEVELS) // steps, len(LEVELS) - 1)
