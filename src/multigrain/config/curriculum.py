"""A curriculum of one's own: which levels each range of steps trains on."""

from __future__ import annotations

from pydantic import Field, field_validator

from multigrain.config.section import Section


class PhaseConfig(Section):
    """A range of steps, and how often each level is trained on in it."""

    until: float = Field(gt=0, le=1)
    """Share of the steps after which the range ends; the last one ends at 1."""

    levels: dict[int, float] = Field(min_length=1)
    """Level (1 easiest to 4 hardest) to weight. One level alone is that of whole batches; of several, each row draws
    its own."""

    @field_validator("levels")
    @classmethod
    def _levels_exist(cls, levels: dict[int, float]) -> dict[int, float]:
        for level, weight in levels.items():
            if level not in (1, 2, 3, 4):
                raise ValueError(f"there is no level {level}; levels are 1 (easiest) to 4 (hardest)")
            if weight < 0:
                raise ValueError(f"the weight of level {level} is {weight:g}; weights are 0 or more")
        if not any(levels.values()):
            raise ValueError("all weights are 0; give at least one level a weight above 0")
        return levels
