"""The batches of a whole run, decided before it starts: which rows, at which level, at which step.

A batch is a list of indices into the *long form* of the data set: (query, positive, negative) triples, all of
level 1 first, then all of level 2, and so on. With n rows, row r at level l stands at (l - 1) * n + r, so the level
lives in the index and needs no column of its own (trainers tokenise every column they are given).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from multigrain.curriculum.schedule import LevelSchedule
from multigrain.records import LEVELS, Level

__all__ = ["batch_at", "level_of", "long_form_index", "plan_batches"]


def long_form_index(row: int, level: Level, rows: int) -> int:
    """Where a row's triple of one level stands in the long form."""
    return (level - 1) * rows + row


def level_of(index: int, rows: int) -> Level:
    """The level of a triple, from its place in the long form."""
    return LEVELS[index // rows]


def plan_batches(
    keys: Sequence[tuple[str, str]], schedule: LevelSchedule, *, steps: int, batch_size: int, seed: int
) -> Iterator[list[int]]:
    """The run's batches, in order.

    Rows are visited in seeded shuffled passes. A batch never holds two rows that share a query or a positive: each
    would be an in-batch negative of the other. Such a row waits for the next batch. Where too few different rows
    are left to fill a batch, the batch is as large as they allow, but never empty.

    Args:
        keys: for each row its query and its positive.
        schedule: the level of each step.
        steps: optimiser steps of the run.
        batch_size: rows a step.
        seed: of the shuffles, and of the rows' own levels where the schedule gives none.

    Yields:
        Indices into the long form, `batch_size` of them where the data allow.
    """
    rows = len(keys)
    waiting: list[int] = []
    passes = 0
    for step in range(steps):
        batch: list[int] = []
        used: set[str] = set()
        held: list[int] = []
        started = passes
        while len(batch) < min(batch_size, rows):
            if not waiting:
                if passes > started + 1:
                    break  # a whole pass within this step added nothing: the rest repeat what is in the batch
                waiting = _shuffled(rows, seed, passes)
                passes += 1
            row = waiting.pop()
            if used.isdisjoint(keys[row]):
                used.update(keys[row])
                batch.append(row)
            else:
                held.append(row)
        waiting.extend(reversed(held))
        yield batch_at(step, batch, schedule, rows=rows, seed=seed)


def batch_at(step: int, rows_of_batch: Sequence[int], schedule: LevelSchedule, *, rows: int, seed: int) -> list[int]:
    """Place a step's rows at their level in the long form."""
    level = schedule(step)
    draw = random.Random(f"{seed}:levels:{step}")
    return [long_form_index(row, level if level is not None else draw.choice(LEVELS), rows) for row in rows_of_batch]


def _shuffled(rows: int, seed: int, number: int) -> list[int]:
    order = list(range(rows))
    random.Random(f"{seed}:pass:{number}").shuffle(order)
    return order
