from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.curriculum.measures import padded_share

from multigrain.curriculum.plan import group_by_length


@given(
    rows=st.lists(st.integers(1, 500), min_size=4, max_size=120),
    size=st.integers(2, 8),
    levels=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    window=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_rows_stay_in_their_stretch_and_batches_keep_their_size(
    rows: list[int], size: int, levels: list[int], window: int, seed: int
) -> None:
    batches = [list(range(start, min(start + size, len(rows)))) for start in range(0, len(rows), size)]
    kinds = [levels[number * len(levels) // len(batches)] for number in range(len(batches))]

    grouped = group_by_length(batches, rows.__getitem__, kinds, texts=lambda row: (row,), seed=seed, window=window)

    assert [len(batch) for batch in grouped] == [len(batch) for batch in batches]
    for level in set(kinds):
        before = Counter(row for batch, own in zip(batches, kinds, strict=True) if own == level for row in batch)
        after = Counter(row for batch, own in zip(grouped, kinds, strict=True) if own == level for row in batch)
        assert after == before
    again = group_by_length(batches, rows.__getitem__, kinds, texts=lambda row: (row,), seed=seed, window=window)
    assert again == grouped
    assert padded_share(grouped, rows.__getitem__) <= padded_share(batches, rows.__getitem__) + 1e-12


def test_it_saves_padding_where_lengths_differ() -> None:
    lengths = [10, 200] * 64
    batches = [list(range(start, start + 8)) for start in range(0, 128, 8)]

    grouped = group_by_length(batches, lengths.__getitem__, [1] * 16, texts=lambda row: (row,), seed=0)

    assert padded_share(batches, lengths.__getitem__) > 0.45
    assert padded_share(grouped, lengths.__getitem__) == 0.0
    widths = [lengths[batch[0]] for batch in grouped]
    assert widths != sorted(widths)


def test_a_text_never_comes_twice_into_a_batch() -> None:
    batches = [[0, 1], [2, 3]]  # rows 0 and 2 are of one length and share a text: only a mix keeps them apart
    same = {0: "a", 2: "a", 1: "b", 3: "c"}

    grouped = group_by_length(batches, [1, 9, 1, 9].__getitem__, [1, 1], texts=lambda row: (same[row],), seed=0)

    assert grouped == batches
