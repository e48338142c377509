from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multigrain.audit.levels import MinedPick, WrittenPick, mined_pool, pick_negatives
from multigrain.mining.search import Ranking
from multigrain.records import LEVELS, Level

BANDS = ((40, 100), (20, 40), (8, 20), (0, 8))


def _pool(highest: float = 0.8):
    return mined_pool(Ranking(np.arange(100), np.linspace(highest, 0.0, 100, dtype=np.float32)), BANDS, seed="p")


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

    pool = mined_pool(ranking, BANDS, seed="p")
    picks = pick_negatives(candidates, pool, sources=sources, ceiling=ceiling, gap=gap, seed="s")

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
        picks = pick_negatives([], _pool(), sources="mined", ceiling=0.9, gap=0.001, seed=str(seed))

        for level, (low, high) in zip(LEVELS, BANDS, strict=True):
            assert low <= picks[level].index < high


def test_a_written_negative_goes_to_the_level_where_its_similarity_was_measured() -> None:
    asked_for_the_easiest_but_hard = WrittenPick("text", Level.EASY, 0.78)

    picks = pick_negatives(
        [asked_for_the_easiest_but_hard], _pool(), sources="hybrid", ceiling=0.9, gap=0.01, seed="s"
    )

    assert picks[Level.HARD] == asked_for_the_easiest_but_hard
    assert all(isinstance(picks[level], MinedPick) for level in LEVELS[:3])


def test_a_negative_above_the_ceiling_is_a_false_negative_and_never_picked() -> None:
    picks = pick_negatives(
        [WrittenPick("too close", Level.HARD, 0.75)],
        _pool(),
        sources="hybrid",
        ceiling=0.5,
        gap=0.01,
        seed="s",
    )

    assert all(isinstance(pick, MinedPick) and pick.similarity <= 0.5 for pick in picks.values())
    assert set(picks) == set(LEVELS)


def test_written_alone_are_levelled_by_their_order() -> None:
    candidates = [WrittenPick(f"t{level}", level, 0.1 * (5 - level)) for level in LEVELS]  # written upside down

    picks = pick_negatives(candidates, _pool(), sources="written", ceiling=0.5, gap=0.05, seed="s")

    assert [picks[level].text for level in LEVELS] == ["t4", "t3", "t2", "t1"]


def test_levels_are_twice_the_gap_apart_where_the_corpus_allows_it() -> None:
    picks = pick_negatives([], _pool(), sources="mined", ceiling=0.9, gap=0.05, seed="s")

    hardest_first = [picks[level].similarity for level in reversed(LEVELS)]
    assert all(left - right >= 0.1 - 1e-6 for left, right in itertools.pairwise(hardest_first))


def test_of_several_candidates_the_one_nearest_to_the_band_is_chosen() -> None:
    candidates = [WrittenPick(f"{value:.2f}", Level.MEDIUM_LOW, value, spare=True) for value in (0.48, 0.55, 0.62)]

    picks = pick_negatives(candidates, _pool(), sources="hybrid", ceiling=0.9, gap=0.01, seed="s")

    assert picks[Level.MEDIUM_LOW].similarity == 0.55  # ranks 20 to 40 of the corpus lie between .64 and .49


def test_without_relevelling_a_negative_serves_only_where_it_was_asked() -> None:
    candidates = [WrittenPick("text", Level.EASY, 0.78)]

    picks = pick_negatives(candidates, _pool(), sources="hybrid", ceiling=0.9, gap=0.01, seed="s", relevel=False)

    assert all(isinstance(pick, MinedPick) for level, pick in picks.items() if level is not Level.EASY)


def test_without_order_written_negatives_stay_where_they_were_asked() -> None:
    candidates = [WrittenPick(f"t{level}", level, 0.1 * (5 - level)) for level in LEVELS]  # upside down

    picks = pick_negatives(candidates, _pool(), sources="hybrid", ceiling=0.9, gap=0.05, seed="s", in_order=False)

    assert [picks[level].text for level in LEVELS] == ["t1", "t2", "t3", "t4"]


@given(banned=st.sets(st.integers(0, 99)))
def test_what_a_judge_turned_away_is_never_mined(banned) -> None:
    picks = pick_negatives([], _pool(), sources="mined", ceiling=0.9, gap=0.001, seed="s", banned=banned)

    assert not banned & {pick.index for pick in picks.values()}


def test_a_long_band_is_sampled_and_every_rank_keeps_its_similarity() -> None:
    ranking = Ranking(np.arange(5000)[::-1].copy(), np.linspace(0.9, 0.1, 5000, dtype=np.float32))
    pool = mined_pool(ranking, ((200, 2000), (40, 200), (8, 40), (0, 8)), seed="p")

    assert len(pool.ranks) == 8 + 32 + 48 + 48
    assert list(pool.ranks) == sorted(pool.ranks)
    np.testing.assert_array_equal(pool.similarities, ranking.similarities[pool.ranks])
    np.testing.assert_array_equal(pool.indices, ranking.indices[pool.ranks])
