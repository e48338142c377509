from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.curriculum.measures import level_of

from multigrain.config import PhaseConfig
from multigrain.curriculum.plan import cut_for_processes, plan_batches, plan_sources
from multigrain.curriculum.pools import GradedPool, GradedShape, PairPool, long_form_index, passage_key
from multigrain.curriculum.schedule import level_schedule
from multigrain.records import LEVELS, Level


def _pool(rows: int, shape: GradedShape = "triples") -> GradedPool:
    """Rows that share no text."""
    return GradedPool([tuple(range(6 * row, 6 * row + 6)) for row in range(rows)], shape)


def _indices(
    pool: GradedPool, name: str, *, steps: int, batch_size: int, seed: int = 0, **how: object
) -> list[list[int]]:
    schedule = level_schedule(name, steps, seed=seed)  # type: ignore[arg-type]
    plan = plan_batches([pool], schedule, steps=steps, batch_size=batch_size, seed=seed, **how)  # type: ignore[arg-type]
    return [step.indices for step in plan]


@given(row=st.integers(0, 99), level=st.sampled_from(LEVELS))
def test_the_level_of_a_triple_can_be_read_off_its_index(row: int, level: Level) -> None:
    index = long_form_index(row, level, rows=100)

    assert level_of(index, rows=100) is level
    assert index % 100 == row


@given(rows=st.integers(2, 60), batch_size=st.integers(2, 16), steps=st.integers(1, 40), seed=st.integers(0, 9))
def test_batches_are_full_free_of_repeats_and_on_the_level_of_their_step(
    rows: int, batch_size: int, steps: int, seed: int
) -> None:
    schedule = level_schedule("coarse-to-fine", steps, seed=seed)
    batches = _indices(_pool(rows), "coarse-to-fine", steps=steps, batch_size=batch_size, seed=seed)

    assert len(batches) == steps
    for step, batch in enumerate(batches):
        assert len(batch) == min(batch_size, rows)
        assert len({index % rows for index in batch}) == len(batch)
        assert {level_of(index, rows) for index in batch} == {schedule(step)}


@given(rows=st.integers(4, 50), seed=st.integers(0, 9))
def test_every_row_is_seen_before_any_is_seen_a_third_time(rows: int, seed: int) -> None:
    visits: Counter[int] = Counter()
    for batch in _indices(_pool(rows), "fixed-1", steps=rows, batch_size=4, seed=seed):
        visits.update(batch)
        assert max(visits.values()) - min(visits[row] for row in range(rows)) <= 2


_TEXTS = st.integers(0, 25)


@given(
    keys=st.lists(st.tuples(*[_TEXTS] * 6), min_size=2, max_size=20),
    shape=st.sampled_from(["pairs", "triples", "lists"]),
    name=st.sampled_from(["coarse-to-fine", "mixed"]),
    seed=st.integers(0, 5),
)
def test_no_text_is_twice_in_a_batch(keys: list[tuple[int, ...]], shape: GradedShape, name: str, seed: int) -> None:
    pool = GradedPool(keys, shape)
    for batch in _indices(pool, name, steps=12, batch_size=5, seed=seed):
        used: set[int] = set()
        for index in batch:
            level = level_of(index, len(keys)) if shape == "triples" else Level(1)
            own = set(pool.texts(index % len(keys), level, 0))
            assert used.isdisjoint(own)
            used |= own
        assert batch


def test_a_hard_negative_never_meets_the_row_that_it_is_the_positive_of() -> None:
    rows = 20
    # Row r's positive is text r; its negatives are the positives of the four rows after it.
    keys = [(100 + row, *((row + step) % rows for step in range(5))) for row in range(rows)]
    for batch in _indices(GradedPool(keys), "coarse-to-fine", steps=60, batch_size=4):
        positives = {keys[index % rows][1] for index in batch}
        negatives = {keys[index % rows][1 + level_of(index, rows)] for index in batch}
        assert positives.isdisjoint(negatives)
        assert len(batch) == 4


def test_the_plan_depends_on_the_seed_alone_so_schedules_see_the_same_rows() -> None:
    plans = {
        name: [[index % 30 for index in batch] for batch in _indices(_pool(30), name, steps=20, batch_size=8, seed=1)]
        for name in ("coarse-to-fine", "reverse", "random", "mixed", "cumulative")
    }

    assert len({str(plan) for plan in plans.values()}) == 1


def test_mixed_draws_every_level_about_equally_and_cumulative_none_that_has_not_come() -> None:
    mixed = Counter(
        level_of(index, 50) for batch in _indices(_pool(50), "mixed", steps=100, batch_size=20) for index in batch
    )
    assert all(400 < mixed[level] < 600 for level in LEVELS)

    batches = _indices(_pool(50), "cumulative", steps=40, batch_size=20)
    for step, batch in enumerate(batches):
        assert {level_of(index, 50) for index in batch} == set(LEVELS[: step // 10 + 1])


@pytest.mark.parametrize("name", ["coarse-to-fine", "reverse", "mixed", "cumulative"])
def test_split_rows_are_met_at_one_level_only_and_none_is_left_out(name: str) -> None:
    rows = 40
    levels: dict[int, set[Level]] = {}
    for batch in _indices(_pool(rows), name, steps=80, batch_size=4, rows="split"):
        for index in batch:
            levels.setdefault(index % rows, set()).add(level_of(index, rows))

    assert sorted(levels) == list(range(rows))
    assert all(len(drawn) == 1 for drawn in levels.values())


def test_split_deals_rows_out_by_the_share_of_the_steps() -> None:
    phases = [PhaseConfig(until=0.1, levels={1: 1}), PhaseConfig(until=1, levels={4: 1})]
    schedule = level_schedule("custom", 100, seed=0, phases=phases)
    plan = plan_batches([_pool(200)], schedule, steps=100, batch_size=10, seed=0, rows="split")
    met = Counter(level_of(index, 200) for index in {index for step in plan for index in step.indices})

    assert met == {Level.EASY: 20, Level.HARD: 180}
    fixed = _indices(_pool(40), "fixed-2", steps=10, batch_size=4, rows="split")
    assert len({index for batch in fixed for index in batch}) == 40


@given(weights=st.lists(st.floats(0.05, 5), min_size=1, max_size=5), steps=st.integers(1, 200))
def test_every_source_has_its_share_of_the_steps_at_every_step(weights: list[float], steps: int) -> None:
    visits: Counter[int] = Counter()
    for step, source in enumerate(plan_sources(weights, steps), start=1):
        visits[source] += 1
        for number, weight in enumerate(weights):
            assert abs(visits[number] - step * weight / sum(weights)) < len(weights)


def test_batches_are_of_one_source_and_the_level_follows_the_step_whatever_came_between() -> None:
    pairs = PairPool([(1000 + 2 * row, 1001 + 2 * row) for row in range(30)], list(range(30)))
    schedule = level_schedule("coarse-to-fine", 40, seed=0)
    plan = list(plan_batches([_pool(30), pairs], schedule, steps=40, batch_size=6, seed=0, weights=[3, 1]))

    assert Counter(step.source for step in plan) == {0: 30, 1: 10}
    for number, step in enumerate(plan):
        if step.source == 0:
            assert {level_of(index, 30) for index in step.indices} == {schedule(number)}
        else:
            assert max(step.indices) < 30


def test_mined_negatives_are_used_in_turn() -> None:
    # Three negatives for row 0, two for row 1, one each for the rest.
    keys: list[tuple[int, ...]] = [
        (0, 1, 2, 3, 4),
        (5, 6, 7, 8),
        *((9 + 3 * row, 10 + 3 * row, 11 + 3 * row) for row in range(4)),
    ]
    pool = PairPool(keys, [0, 3, 5, 6, 7, 8])
    visits = Counter(
        index
        for step in plan_batches([pool], level_schedule("mixed", 36, seed=0), steps=36, batch_size=3, seed=0)
        for index in step.indices
    )

    assert [visits[index] for index in range(3)] == pytest.approx([6, 6, 6], abs=1)
    assert [visits[index] for index in (3, 4)] == pytest.approx([9, 9], abs=1)
    assert all(abs(visits[index] - 18) <= 1 for index in range(5, 9))


@given(
    size=st.integers(1, 8),
    processes=st.integers(1, 4),
    accumulation=st.integers(1, 4),
)
def test_processes_together_compute_on_what_one_process_computes_on(
    size: int, processes: int, accumulation: int
) -> None:
    batch = list(range(size * processes * accumulation))
    alone = list(cut_for_processes(batch, accumulation))
    together = list(cut_for_processes(batch, accumulation * processes))

    for part in range(accumulation):
        # Process j is handed every pth batch, from its jth on.
        of_processes: Sequence[list[int]] = [together[part * processes + rank] for rank in range(processes)]
        assert [index for batch in of_processes for index in batch] == alone[part]


def test_a_batch_that_cannot_be_filled_is_cut_to_equal_parts() -> None:
    batches = _indices(_pool(7), "fixed-1", steps=9, batch_size=12, parts=3)

    assert {len(batch) for batch in batches} == {6}
    assert len({index for batch in batches for index in batch}) == 7
    with pytest.raises(ValueError, match="fewer than 8 rows"):
        _indices(_pool(7), "fixed-1", steps=1, batch_size=8, parts=8)


def test_texts_have_the_same_key_in_every_process() -> None:
    assert passage_key("déjà vu") == 611761165987220780
    assert passage_key("a") != passage_key("b")
