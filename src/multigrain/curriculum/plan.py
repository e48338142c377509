"""The batches of a whole run, decided before it starts: which source, which rows, at which level, at which step."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from multigrain.config import RowSharing
from multigrain.curriculum.pools import RowPool
from multigrain.curriculum.schedule import LevelSchedule, LevelWeights
from multigrain.records import LEVELS, Level

_WINDOW: Final = 16  # batches that exchange rows


@dataclass(frozen=True)
class PlannedStep:
    """One optimiser step.

    Attributes:
        source: number of the source that all its rows are from.
        indices: of its rows in that source's data set.
    """

    source: int
    indices: list[int]


def plan_sources(weights: Sequence[float], steps: int) -> list[int]:
    """The source of every step: at any step, each has had its share of the steps so far, to within one.

    Args:
        weights: of the sources; 0 for one that gets no step.
        steps: optimiser steps of the run.
    """
    total = sum(weights)
    owed = [0.0] * len(weights)
    chosen = []
    for _ in range(steps):
        owed = [debt + weight / total for debt, weight in zip(owed, weights, strict=True)]
        # Rounding keeps equal debts equal; the first of them is served first.
        first = max(range(len(owed)), key=lambda source: (round(owed[source], 9), -source))
        owed[first] -= 1
        chosen.append(first)
    return chosen


def plan_batches(
    pools: Sequence[RowPool],
    schedule: LevelSchedule,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    weights: Sequence[float] = (1.0,),
    rows: RowSharing = "all",
    parts: int = 1,
) -> Iterator[PlannedStep]:
    """The run's steps, in order.

    Rows are visited in seeded shuffled passes. A batch never holds a text twice: it would be an in-batch negative of
    a row that it is the positive of, or count double; nor does it hold a further positive of another of its rows. A
    row that would bring one waits for the next batch. Where too few different rows are left to fill a batch, the
    batch is as large as they allow.

    Args:
        pools: the sources; the first has levels, the others take no note of them.
        schedule: the levels of each step.
        steps: optimiser steps of the run.
        batch_size: rows a step.
        seed: of the shuffles, and of the rows' own levels where the schedule gives a step several.
        weights: how many steps each source gets, relative to the others.
        rows: whether each level of the first source draws from all of its rows, or from its own.
        parts: a batch's size is a multiple of this.

    Yields:
        For each step its source and `batch_size` indices, or as many as the data allow.

    Raises:
        ValueError: a source has too few different rows to give each part one.
    """
    drawn = [_shared(pool, number, seed) for number, pool in enumerate(pools)]
    if rows == "split":
        drawn[0] = _dealt(pools[0], schedule, steps, seed)
    for step, source in enumerate(plan_sources(weights, steps)):
        # Each row's own level is drawn before the row, so that a row that must wait moves no other row's level.
        levels = _levels(schedule.weights(step), random.Random(f"{seed}:levels:{step}"))
        indices = _fill(pools[source], drawn[source], levels, batch_size, parts)
        if not indices:
            raise ValueError(f"source {source}: fewer than {parts} rows without a text in common")
        yield PlannedStep(source, indices)


def cut_for_processes(batch: Sequence[int], parts: int) -> Iterator[list[int]]:
    """Cut a step's batch into equal parts, in the order in which the trainer hands them out.

    With p processes and a parts to accumulate, part number i·p + j is process j's ith: so what the processes compute
    on at the same time is one run of the batch, and one process accumulating as often computes on the same.
    """
    size = len(batch) // parts
    for part in range(parts):
        yield list(batch[part * size : (part + 1) * size])


def group_by_length(
    batches: Sequence[Sequence[int]],
    lengths: Callable[[int], int],
    kinds: Sequence[Hashable],
    *,
    texts: Callable[[int], Sequence[Hashable]],
    shuns: Callable[[int], Sequence[Hashable]] = lambda _: (),
    seed: int,
    window: int = _WINDOW,
) -> list[list[int]]:
    """Let neighbouring batches of one kind exchange rows, so that each holds rows of like length.

    Nothing leaves its kind (a level, a source), every batch keeps its size, and each row is visited as often as
    before. Where an exchange would bring one text into a batch twice, the window stays as it was.

    Args:
        batches: indices of rows, one list a batch.
        lengths: of a row; any number that grows with it.
        kinds: of each batch; rows go from a batch to those of its kind alone.
        texts: of a row; no batch may hold one of them twice.
        shuns: texts that no other row of a row's batch may have.
        seed: of the order of the batches within a window, so that training does not go from short to long.
        window: batches that exchange rows.
    """
    grouped: list[list[int]] = []
    signs = [(kind, len(batch)) for kind, batch in zip(kinds, batches, strict=True)]
    start = 0
    while start < len(batches):
        end = start + 1
        while end < min(len(batches), start + window) and signs[end] == signs[start]:
            end += 1
        window_batches = [list(batch) for batch in batches[start:end]]
        grouped += _exchange(window_batches, lengths, texts, shuns, f"{seed}:lengths:{start}")
        start = end
    return grouped


class _Passes:
    """Rows in seeded shuffled passes. Rows that were put back come first."""

    def __init__(self, rows: Sequence[int], seed: str) -> None:
        self.rows = rows
        self.seed = seed
        self.number = 0
        self.waiting: list[int] = []

    def next(self) -> int:
        if not self.waiting:
            self.waiting = list(self.rows)
            random.Random(f"{self.seed}:pass:{self.number}").shuffle(self.waiting)
            self.number += 1
        return self.waiting.pop()

    def put_back(self, rows: Sequence[int]) -> None:
        self.waiting.extend(reversed(rows))


def _fill(pool: RowPool, drawn: Sequence[_Passes], levels: Iterator[Level], batch_size: int, parts: int) -> list[int]:
    batch: list[tuple[_Passes, int, int]] = []
    used: set[int] = set()
    shunned: set[int] = set()
    waiting: list[tuple[_Passes, int]] = []
    started = {id(passes): passes.number for passes in drawn}
    size = min(batch_size, len(pool))
    for level in itertools.islice(levels, size):
        passes = drawn[level - 1]
        while passes.rows:
            row = passes.next()
            if passes.number > started[id(passes)] + 1:
                passes.put_back([row])
                break  # a whole pass within this step added nothing: the rest repeat what is in the batch
            visit = passes.number - 1
            texts, shuns = pool.texts(row, level, visit), pool.shuns(row)
            if used.isdisjoint(texts) and shunned.isdisjoint(texts) and used.isdisjoint(shuns):
                used.update(texts)
                shunned.update(shuns)
                batch.append((passes, row, pool.index(row, level, visit)))
                break
            waiting.append((passes, row))
    size = len(batch) - len(batch) % parts
    waiting += [(passes, row) for passes, row, _ in batch[size:]]
    for passes in drawn:
        passes.put_back([row for owner, row in waiting if owner is passes])
        waiting = [(owner, row) for owner, row in waiting if owner is not passes]
    return [index for _, _, index in batch[:size]]


def _levels(weights: LevelWeights, draw: random.Random) -> Iterator[Level]:
    if 1.0 in weights:
        yield from itertools.repeat(LEVELS[weights.index(1.0)])
    while True:
        yield draw.choices(LEVELS, weights)[0]


def _shared(pool: RowPool, number: int, seed: int) -> list[_Passes]:
    """All levels draw from the same rows, in the same passes."""
    passes = _Passes(range(len(pool)), f"{seed}" if number == 0 else f"{seed}:source:{number}")
    return [passes] * len(LEVELS)


def _dealt(pool: RowPool, schedule: LevelSchedule, steps: int, seed: int) -> list[_Passes]:
    """Each level has its own rows, as many as its share of the run."""
    shares = [0.0] * len(LEVELS)
    for step in range(steps):
        shares = [share + weight for share, weight in zip(shares, schedule.weights(step), strict=True)]
    order = list(range(len(pool)))
    random.Random(f"{seed}:deal").shuffle(order)
    bounds = [round(bound / steps * len(order)) for bound in itertools.accumulate(shares, initial=0.0)]
    return [
        _Passes(order[start:stop], f"{seed}:level:{level}")
        for level, start, stop in zip(LEVELS, bounds, bounds[1:], strict=False)
    ]


def _exchange(
    batches: list[list[int]],
    lengths: Callable[[int], int],
    texts: Callable[[int], Sequence[Hashable]],
    shuns: Callable[[int], Sequence[Hashable]],
    seed: str,
) -> list[list[int]]:
    rows = sorted((row for batch in batches for row in batch), key=lambda row: (lengths(row), row))
    size = len(batches[0])
    exchanged = [rows[start : start + size] for start in range(0, len(rows), size)]
    if any(_repeats(batch, texts, shuns) for batch in exchanged):
        return batches
    random.Random(seed).shuffle(exchanged)
    return exchanged


def _repeats(
    batch: Sequence[int],
    texts: Callable[[int], Sequence[Hashable]],
    shuns: Callable[[int], Sequence[Hashable]],
) -> bool:
    keys = [key for row in batch for key in set(texts(row))]
    held = set(keys)
    if len(keys) != len(held):
        return True
    return any(not held.isdisjoint(set(shuns(row)) - set(texts(row))) for row in batch)
