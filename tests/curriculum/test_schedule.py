from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.curriculum.plan import level_of, long_form_index, plan_batches
from multigrain.curriculum.schedule import boundaries, level_schedule
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
    found = boundaries(level_schedule("coarse-to-fine", 40, seed=0), 40)

    assert [(each.step, each.level) for each in found] == [(0, 1), (10, 2), (20, 3), (30, 4)]
    assert boundaries(level_schedule("mixed", 40, seed=0), 40) == []


@given(row=st.integers(0, 99), level=st.sampled_from(LEVELS))
def test_the_level_of_a_triple_can_be_read_off_its_index(row: int, level: Level) -> None:
    index = long_form_index(row, level, rows=100)

    assert level_of(index, rows=100) is level
    assert index % 100 == row


def _keys(rows: int) -> list[tuple[str, str]]:
    return [(f"query {row}", f"passage {row}") for row in range(rows)]


@given(rows=st.integers(2, 60), batch_size=st.integers(2, 16), steps=st.integers(1, 40), seed=st.integers(0, 9))
def test_batches_are_full_free_of_repeats_and_on_the_level_of_their_step(
    rows: int, batch_size: int, steps: int, seed: int
) -> None:
    schedule = level_schedule("coarse-to-fine", steps, seed=seed)
    batches = list(plan_batches(_keys(rows), schedule, steps=steps, batch_size=batch_size, seed=seed))

    assert len(batches) == steps
    for step, batch in enumerate(batches):
        assert len(batch) == min(batch_size, rows)
        assert len({index % rows for index in batch}) == len(batch)
        assert {level_of(index, rows) for index in batch} == {schedule(step)}


@given(rows=st.integers(4, 50), seed=st.integers(0, 9))
def test_every_row_is_seen_before_any_is_seen_a_third_time(rows: int, seed: int) -> None:
    schedule = level_schedule("fixed-1", rows, seed=seed)
    seen: Counter[int] = Counter()
    for batch in plan_batches(_keys(rows), schedule, steps=rows, batch_size=4, seed=seed):
        seen.update(batch)
        assert max(seen.values()) - min(seen[row] for row in range(rows)) <= 2


def test_rows_that_share_a_text_never_meet_in_a_batch() -> None:
    keys = [("same query", "a"), ("same query", "b"), ("q", "shared passage"), ("r", "shared passage"), ("s", "t")]
    schedule = level_schedule("fixed-1", 50, seed=0)

    for batch in plan_batches(keys, schedule, steps=50, batch_size=4, seed=3):
        texts = [text for row in batch for text in keys[row % 5]]
        assert len(texts) == len(set(texts))
        assert batch


def test_the_plan_depends_on_the_seed_alone_so_schedules_see_the_same_rows() -> None:
    plans = {
        name: [
            [index % 30 for index in batch]
            for batch in plan_batches(
                _keys(30),
                level_schedule(name, 20, seed=1),
                steps=20,
                batch_size=8,
                seed=1,  # type: ignore[arg-type]
            )
        ]
        for name in ("coarse-to-fine", "reverse", "random", "mixed")
    }

    assert len({str(plan) for plan in plans.values()}) == 1
