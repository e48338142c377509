from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multigrain.audit.levels import MinedPick, WrittenPick, pick_negatives
from multigrain.mining.bands import Ranking
from multigrain.records import LEVELS, Level

BANDS = ((40, 100), (20, 40), (8, 20), (0, 8))


def _ranking(highest: float = 0.8) -> Ranking:
    return Ranking(np.arange(100), np.linspace(highest, 0.0, 100, dtype=np.float32))


_similarities = st.floats(-1, 1, width=32, allow_nan=False)


@given(
    written=st.lists(st.tuples(st.sampled_from(LEVELS), _similarities), max_size=4),
    ceiling=_similarities,
    gap=st.floats(0, 0.2),
    corpus=st.lists(_similarities, min_size=1, max_size=120),
    sources=st.sampled_from(["hybrid", "mined", "written"]),
)
def test_picks_fall_from_the_ceiling_by_at_least_the_gap(written, ceiling, gap, corpus, sources) -> None:
    ranking = Ranking(np.arange(len(corpus)), np.array(sorted(corpus, reverse=True), dtype=np.float32))
    candidates = [WrittenPick(f"text {index}", level, value) for index, (level, value) in enumerate(written)]

    picks = pick_negatives(candidates, ranking, BANDS, sources=sources, ceiling=ceiling, gap=gap, seed="s")

    hardest_first = [picks[level].similarity for level in reversed(LEVELS) if level in picks]
    assert all(value <= ceiling + 1e-6 for value in hardest_first)
    assert all(left - right >= gap - 1e-6 for left, right in itertools.pairwise(hardest_first))
    kinds = {"mined": MinedPick, "written": WrittenPick}
    if sources in kinds:
        assert all(isinstance(pick, kinds[sources]) for pick in picks.values())
    texts = [pick.text for pick in picks.values() if isinstance(pick, WrittenPick)]
    assert len(texts) == len(set(texts))


def test_mined_picks_come_from_their_level_s_band() -> None:
    for seed in range(50):
        picks = pick_negatives([], _ranking(), BANDS, sources="mined", ceiling=0.9, gap=0.001, seed=str(seed))

        for level, (low, high) in zip(LEVELS, BANDS, strict=True):
            assert low <= picks[level].index < high


def test_a_written_negative_goes_to_the_level_where_its_similarity_was_measured() -> None:
    asked_for_the_easiest_but_hard = WrittenPick("text", Level.EASY, 0.78)

    picks = pick_negatives(
        [asked_for_the_easiest_but_hard], _ranking(), BANDS, sources="hybrid", ceiling=0.9, gap=0.01, seed="s"
    )

    assert picks[Level.HARD] == asked_for_the_easiest_but_hard
    assert all(isinstance(picks[level], MinedPick) for level in LEVELS[:3])


def test_a_negative_above_the_ceiling_is_a_false_negative_and_never_picked() -> None:
    picks = pick_negatives(
        [WrittenPick("too close", Level.HARD, 0.75)],
        _ranking(),
        BANDS,
        sources="hybrid",
        ceiling=0.5,
        gap=0.01,
        seed="s",
    )

    assert all(isinstance(pick, MinedPick) and pick.similarity <= 0.5 for pick in picks.values())
    assert set(picks) == set(LEVELS)


def test_written_alone_are_levelled_by_their_order() -> None:
    candidates = [WrittenPick(f"t{level}", level, 0.1 * (5 - level)) for level in LEVELS]  # written upside down

    picks = pick_negatives(candidates, _ranking(), BANDS, sources="written", ceiling=0.5, gap=0.05, seed="s")

    assert [picks[level].text for level in LEVELS] == ["t4", "t3", "t2", "t1"]
