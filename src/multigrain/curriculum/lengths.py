"""Batches of texts of like length: less padding, and the curriculum as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Final

_WINDOW: Final = 16  # batches that exchange rows


def group_by_length(
    batches: Sequence[Sequence[int]],
    lengths: Callable[[int], int],
    stretches: Sequence[Hashable],
    *,
    texts: Callable[[int], Sequence[Hashable]],
    seed: int,
    window: int = _WINDOW,
) -> list[list[int]]:
    """Let neighbouring batches of one stretch exchange rows, so that each holds rows of like length.

    Nothing leaves its stretch (a level, a source), every batch keeps its size, and each row is visited as often as
    before. Where an exchange would bring one text into a batch twice, the window stays as it was.

    Args:
        batches: indices of rows, one list a batch.
        lengths: of a row; any number that grows with it.
        stretches: for each batch, what it must not be mixed across.
        texts: of a row; no batch may hold one of them twice.
        seed: of the order of the batches within a window, so that training does not go from short to long.
        window: batches that exchange rows.
    """
    grouped: list[list[int]] = []
    start = 0
    while start < len(batches):
        end = start + 1
        while end < min(len(batches), start + window) and _alike(batches, stretches, start, end):
            end += 1
        grouped += _exchange([list(each) for each in batches[start:end]], lengths, texts, f"{seed}:lengths:{start}")
        start = end
    return grouped


def _alike(batches: Sequence[Sequence[int]], stretches: Sequence[Hashable], first: int, other: int) -> bool:
    return stretches[other] == stretches[first] and len(batches[other]) == len(batches[first])


def _exchange(
    batches: list[list[int]], lengths: Callable[[int], int], texts: Callable[[int], Sequence[Hashable]], seed: str
) -> list[list[int]]:
    rows = sorted((row for batch in batches for row in batch), key=lambda row: (lengths(row), row))
    size = len(batches[0])
    exchanged = [rows[start : start + size] for start in range(0, len(rows), size)]
    if any(_repeats(batch, texts) for batch in exchanged):
        return batches
    random.Random(seed).shuffle(exchanged)
    return exchanged


def _repeats(batch: Sequence[int], texts: Callable[[int], Sequence[Hashable]]) -> bool:
    found = [text for row in batch for text in set(texts(row))]
    return len(found) != len(set(found))
