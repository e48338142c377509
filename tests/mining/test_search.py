from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.mining import search
from multigrain.mining.rules import nearest_bands, scale_bands
from multigrain.mining.search import rank_corpus, top_k


def _unit(rows: int, seed: int, dimensions: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [3, 7, 1000])
def test_top_k_equals_a_full_sort_whatever_the_block_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CORPUS_BLOCK", block)
    monkeypatch.setattr(search, "_QUERY_BLOCK", 5)
    queries, corpus = _unit(12, 1), _unit(50, 2)

    scores, indices = top_k(queries, corpus, 9)

    expected = np.argsort(-(queries @ corpus.T), axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ corpus.T, expected, axis=1), atol=1e-6)


def test_equal_scores_go_to_the_smaller_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CORPUS_BLOCK", 4)
    corpus = np.repeat(_unit(1, 0), 10, axis=0)

    _, indices = top_k(corpus[:2], corpus, 10)

    np.testing.assert_array_equal(indices[:, :3], [[0, 1, 2], [0, 1, 2]])


@given(size=st.integers(4, 3000))
@settings(max_examples=200)
def test_scaled_bands_are_ordered_disjoint_and_inside_the_corpus(size: int) -> None:
    bands = scale_bands([(200, 2000), (40, 200), (8, 40), (0, 8)], size)

    hardest_first = bands[::-1]
    assert hardest_first[0][0] == 0
    assert all(low < high for low, high in bands)
    assert all(band[1] <= easier[0] for band, easier in itertools.pairwise(hardest_first))
    assert bands[0][1] <= max(size, 4)


def test_bands_are_kept_as_they_are_where_the_corpus_is_large_enough() -> None:
    bands = ((200, 2000), (40, 200), (8, 40), (0, 8))

    assert scale_bands(bands, 2000) == bands


def test_a_ranking_leaves_out_the_whole_group_of_the_positive() -> None:
    corpus = _unit(40, 3)
    groups = [index // 4 for index in range(40)]

    rankings = list(rank_corpus(corpus[:3], corpus, groups, [{0}, set(), {5, 7}], depth=30))

    assert len(rankings) == 3
    assert all(len(ranking.indices) == 30 for ranking in rankings)
    assert {0, 1, 2, 3}.isdisjoint(rankings[0].indices.tolist())
    assert 1 in rankings[1].indices
    assert {20, 21, 22, 23, 28, 29, 30, 31}.isdisjoint(rankings[2].indices.tolist())
    assert all((np.diff(ranking.similarities) <= 1e-7).all() for ranking in rankings)


@pytest.mark.parametrize(
    ("hardest", "cut"),
    [
        ((0, 8), ((6, 8), (4, 6), (2, 4), (0, 2))),
        ((0, 2), ((3, 4), (2, 3), (1, 2), (0, 1))),
        ((5, 6), ((8, 9), (7, 8), (6, 7), (5, 6))),
    ],
)
def test_nearest_bands_share_the_ranks_of_the_hardest_level(
    hardest: tuple[int, int], cut: tuple[tuple[int, int], ...]
) -> None:
    assert nearest_bands(((200, 2000), (40, 200), (8, 40), hardest)) == cut
