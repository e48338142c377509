from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.config import PhaseConfig
from multigrain.curriculum.schedule import LevelSchedule, StepRange, boundaries, level_schedule, step_ranges
from multigrain.records import LEVELS, Level


@given(steps=st.integers(4, 5000))
def test_coarse_to_fine_visits_the_levels_in_order_for_equally_many_steps(steps: int) -> None:
    levels = [level_schedule("coarse-to-fine", steps, seed=0)(step) for step in range(steps)]

    assert levels == sorted(levels)
    counts = Counter(levels)
    assert set(counts) == set(LEVELS)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(steps=st.integers(1, 500))
def test_reverse_is_coarse_to_fine_with_the_levels_turned_around(steps: int) -> None:
    forward, backward = (level_schedule(name, steps, seed=0) for name in ("coarse-to-fine", "reverse"))

    assert [5 - forward(step) for step in range(steps)] == [backward(step) for step in range(steps)]


def test_random_is_seeded_and_even() -> None:
    schedule = level_schedule("random", 4000, seed=1)
    levels = [schedule(step) for step in range(4000)]

    assert levels == [level_schedule("random", 4000, seed=1)(step) for step in range(4000)]
    assert levels != [level_schedule("random", 4000, seed=2)(step) for step in range(4000)]
    assert all(900 < count < 1100 for count in Counter(levels).values())


@pytest.mark.parametrize("level", LEVELS)
def test_fixed_stays_on_its_level(level: Level) -> None:
    schedule = level_schedule(f"fixed-{int(level)}", 10, seed=0)  # type: ignore[arg-type]

    assert {schedule(step) for step in range(10)} == {level}


def test_boundaries_name_the_first_step_of_each_level() -> None:
    changes = boundaries(level_schedule("coarse-to-fine", 40, seed=0), 40)

    assert [(change.step, change.level) for change in changes] == [(1, 1), (11, 2), (21, 3), (31, 4)]
    assert boundaries(level_schedule("mixed", 40, seed=0), 40) == []


def _phases(*phases: tuple[float, dict[int, float]]) -> list[PhaseConfig]:
    return [PhaseConfig(until=until, levels=levels) for until, levels in phases]


def test_cumulative_adds_a_level_every_quarter() -> None:
    ranges = step_ranges(level_schedule("cumulative", 40, seed=0), 40)

    assert [(part.start, part.stop) for part in ranges] == [(0, 10), (10, 20), (20, 30), (30, 40)]
    for number, part in enumerate(ranges, start=1):
        assert [weight > 0 for weight in part.weights] == [level <= number for level in (1, 2, 3, 4)]
        assert sum(part.weights) == pytest.approx(1)


def test_custom_follows_its_stretches() -> None:
    phases = _phases((0.25, {1: 1}), (0.75, {2: 3, 3: 1}), (1, {4: 5}))
    schedule = level_schedule("custom", 8, seed=0, phases=phases)

    assert step_ranges(schedule, 8) == [
        StepRange(0, 2, (1, 0, 0, 0)),
        StepRange(2, 6, (0, 0.75, 0.25, 0)),
        StepRange(6, 8, (0, 0, 0, 1)),
    ]
    assert [schedule(step) for step in (0, 2, 7)] == [1, None, 4]


@given(steps=st.integers(4, 300))
def test_coarse_to_fine_can_be_written_as_a_custom_curriculum(steps: int) -> None:
    phases = _phases(*((level / 4, {level: 1.0}) for level in (1, 2, 3, 4)))
    written, named = (
        level_schedule("custom", steps, seed=0, phases=phases),
        level_schedule("coarse-to-fine", steps, seed=0),
    )

    assert [written(step) for step in range(steps)] == [named(step) for step in range(steps)]


def test_a_schedule_that_mixes_levels_anywhere_has_no_boundaries() -> None:
    phases = _phases((0.5, {1: 1}), (1, {3: 1, 4: 1}))

    assert boundaries(level_schedule("custom", 10, seed=0, phases=phases), 10) == []


@given(steps=st.integers(1, 200), name=st.sampled_from(["coarse-to-fine", "reverse", "random", "cumulative", "mixed"]))
def test_weights_are_a_pure_function_of_the_step(steps: int, name: str) -> None:
    def weights(schedule: LevelSchedule, order: list[int]) -> dict[int, tuple[float, ...]]:
        return {step: schedule.weights(step) for step in order}

    forward = weights(level_schedule(name, steps, seed=3), list(range(steps)))  # type: ignore[arg-type]
    backward = weights(level_schedule(name, steps, seed=3), list(reversed(range(steps))))  # type: ignore[arg-type]
    assert forward == backward
    assert all(sum(part) == pytest.approx(1) for part in forward.values())
