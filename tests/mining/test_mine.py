from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.errors import ConfigError, SourceError
from multigrain.mining.approximate import ApproximateSearch, recall_of
from multigrain.mining.best import NO_ROW
from multigrain.mining.lexical import LexicalIndex
from multigrain.mining.mine import Mined, QueryBlock, fuse_ranks, mine_negatives
from multigrain.mining.rules import MiningRules, ceilings_of, word_keys
from multigrain.mining.search import top_k


def _unit(rows: int, seed: int, dimensions: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _mine(
    rules: MiningRules, *, rows: int = 300, queries: int = 12, texts: list[str] | None = None
) -> tuple[list[Mined], np.ndarray, np.ndarray]:
    """Query n's positive is corpus row n."""
    corpus, vectors = _unit(rows, 1), _unit(queries, 2)
    vectors = 0.6 * vectors + corpus[:queries]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = texts or [f"document {row}" for row in range(rows)]
    keys = word_keys(texts)
    block = QueryBlock(
        vectors,
        np.einsum("nd,nd->n", vectors, corpus[:queries]),
        [[0, int(keys[n])] for n in range(queries)],
        [f"document {n + 50}" for n in range(queries)],
    )
    lexical = None if rules.fuse == "dense" else LexicalIndex(texts)
    return list(mine_negatives(block, corpus, keys, rules, lexical=lexical)), vectors, corpus


@given(
    absolute=st.none() | st.floats(0, 0.6),
    relative=st.none() | st.floats(0, 0.6),
    highest=st.none() | st.floats(0, 1),
    negatives=st.integers(1, 7),
    first=st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_mining_is_the_plain_rule_written_out(
    absolute: float | None, relative: float | None, highest: float | None, negatives: int, first: int
) -> None:
    rules = MiningRules(negatives, first, absolute_margin=absolute, relative_margin=relative, max_similarity=highest)
    mined, vectors, corpus = _mine(rules)

    for number, result in enumerate(mined):
        scores = corpus @ vectors[number]
        positive = np.float32(scores[number])
        bar = min(
            np.inf if highest is None else highest,
            np.inf if absolute is None else positive - absolute,
            np.inf if relative is None else positive - abs(positive) * relative,
        )
        # Candidates within rounding of the bar may fall on either side of it.
        sure = [row for row in np.argsort(-scores) if row != number and scores[row] <= bar - 1e-5]
        close = [row for row in range(300) if row != number and abs(scores[row] - bar) < 1e-5]
        if not close:
            assert result.indices.tolist() == sure[first : first + negatives]
        assert number not in result.indices
        assert (result.similarities <= bar + 1e-5).all()
        np.testing.assert_allclose(result.similarities, scores[result.indices], atol=1e-5)


def test_the_same_text_in_other_case_and_punctuation_is_no_negative_and_repeats_count_once() -> None:
    texts = [f"document {row}" for row in range(300)]
    plain, _, _ = _mine(MiningRules(negatives=6))
    nearest = plain[0].indices.tolist()
    texts[nearest[0]] = "  Document, 0!"  # query 0's positive again
    texts[nearest[2]] = f"DOCUMENT {min(nearest[1], nearest[2])}" if nearest[2] > nearest[1] else texts[nearest[2]]
    mined, _, _ = _mine(MiningRules(negatives=6), texts=texts)

    assert nearest[0] not in mined[0].indices
    keys = word_keys([texts[row] for row in mined[0].indices])
    assert len(set(keys.tolist())) == 6


def test_a_margin_moves_ranks_down_instead_of_leaving_too_few() -> None:
    strict, _, _ = _mine(MiningRules(negatives=20, absolute_margin=0.5))
    assert all(len(result.indices) == 20 for result in strict)


def test_what_the_corpus_cannot_give_is_missing_and_not_made_up() -> None:
    mined, _, _ = _mine(MiningRules(negatives=50), rows=30)
    assert {len(result.indices) for result in mined} == {29}
    none, _, _ = _mine(MiningRules(negatives=5, max_similarity=-1.0), rows=30)
    assert {len(result.indices) for result in none} == {0}


def test_bands_give_one_negative_a_level_easiest_first() -> None:
    bands = ((100, 250), (40, 100), (8, 40), (0, 8))
    mined, vectors, corpus = _mine(MiningRules(bands=bands, absolute_margin=0.02))
    again, _, _ = _mine(MiningRules(bands=bands, absolute_margin=0.02))
    for number, result in enumerate(mined):
        assert (np.diff(result.similarities) >= 0).all()
        order = np.argsort(-(corpus @ vectors[number])).tolist()
        ceiling = (corpus[number] @ vectors[number]) - 0.02
        candidates = [row for row in order if row != number and corpus[row] @ vectors[number] <= ceiling]
        ranks = [candidates.index(row) for row in result.indices]
        assert all(low <= rank < high for rank, (low, high) in zip(ranks, bands, strict=True))
        np.testing.assert_array_equal(result.indices, again[number].indices)


def test_random_sampling_stays_within_its_ranks_and_follows_its_seed() -> None:
    rules = MiningRules(negatives=4, first_rank=3, last_rank=30, sampling="random")
    mined, vectors, corpus = _mine(rules)
    for number, result in enumerate(mined):
        order = [row for row in np.argsort(-(corpus @ vectors[number])) if row != number]
        assert set(result.indices.tolist()) <= set(order[3:30])
        assert len(set(result.indices.tolist())) == 4
    other, _, _ = _mine(MiningRules(negatives=4, first_rank=3, last_rank=30, sampling="random", seed=1))
    assert any(a.indices.tolist() != b.indices.tolist() for a, b in zip(mined, other, strict=True))


def test_words_and_vectors_each_bring_what_the_other_misses() -> None:
    words, _, _ = _mine(MiningRules(negatives=3, fuse="lexical"))
    both, _, _ = _mine(MiningRules(negatives=3, fuse="both"))
    dense, _, _ = _mine(MiningRules(negatives=3))
    for number in range(12):
        assert number + 50 in words[number].indices  # the only text that holds the query's number
        assert number + 50 in both[number].indices
        assert set(both[number].indices.tolist()) & set(dense[number].indices.tolist())
    strict, vectors, corpus = _mine(MiningRules(negatives=3, fuse="lexical", absolute_margin=0.3))
    for number, result in enumerate(strict):
        assert (result.similarities <= corpus[number] @ vectors[number] - 0.3 + 1e-6).all()


def test_reciprocal_ranks_prefer_what_both_have() -> None:
    assert fuse_ranks([np.asarray([5, 1, 2]), np.asarray([7, 1, 9])])[0] == 1
    assert fuse_ranks([np.asarray([3]), np.asarray([2])]).tolist() == [2, 3]  # a tie: the smaller row


def test_ceilings_hold_below_zero_too() -> None:
    rules = MiningRules(relative_margin=0.1)
    np.testing.assert_allclose(ceilings_of(rules, np.asarray([0.5, -0.5], dtype=np.float32)), [0.45, -0.55])
    assert ceilings_of(MiningRules(), np.zeros(2, dtype=np.float32)) is None


def test_top_k_passes_over_ceilings_and_what_is_left_out() -> None:
    queries, corpus = _unit(5, 3), _unit(60, 4)
    left_out = np.zeros(60, dtype=bool)
    left_out[::3] = True
    ceilings = np.full(5, 0.2, dtype=np.float32)
    ceilings[4] = -2
    scores, rows = top_k(queries, corpus, 60, ceilings=ceilings, left_out=left_out)
    full = queries @ corpus.T
    for number in range(5):
        filled = rows[number][rows[number] != NO_ROW]
        expected = [r for r in np.argsort(-full[number]) if not left_out[r] and full[number][r] <= ceilings[number]]
        assert filled.tolist() == expected
        assert np.isneginf(scores[number][len(filled) :]).all()


@pytest.mark.parametrize("which", ["query", "corpus"])
def test_vectors_that_are_not_finite_are_refused(which: str) -> None:
    queries, corpus = _unit(5, 3), _unit(60, 4)
    (queries if which == "query" else corpus)[2, 1] = np.nan
    with pytest.raises(SourceError, match=r"not (all )?finite"):
        top_k(queries, corpus, 3)
    with pytest.raises(SourceError, match="one model"):
        top_k(_unit(2, 1, 5), _unit(4, 1, 6), 2)


def test_rules_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ConfigError, match="fewer than 5"):
        MiningRules(negatives=5, first_rank=3, last_rank=6)
    with pytest.raises(ConfigError, match="at least 1"):
        MiningRules(negatives=0)


def test_approximate_search_measures_its_recall_and_keeps_the_rules() -> None:
    corpus, queries = _unit(3_000, 5, 32), _unit(40, 6, 32)
    search = ApproximateSearch(corpus, threads=1)
    measured = search.tune(queries, depth=20, recall=0.95)
    _, exact = top_k(queries, corpus, 20)
    hidden = np.zeros(3_000, dtype=bool)
    hidden[exact[:, 0]] = True
    ceilings = np.full(40, 0.55, dtype=np.float32)
    scores, rows = search(queries, 20, ceilings, hidden)

    assert measured.value >= 0.95
    assert (measured.queries, measured.depth) == (40, 20)
    true_scores, true = top_k(queries, corpus, 20, ceilings=ceilings, left_out=hidden)
    assert recall_of(rows, true) > 0.8
    assert not hidden[rows[rows != NO_ROW]].any()
    assert (scores[rows != NO_ROW] <= 0.55).all()
    np.testing.assert_allclose(
        scores[rows != NO_ROW], np.take_along_axis(queries @ corpus.T, rows, axis=1)[rows != NO_ROW], atol=1e-5
    )
    assert true_scores.shape == scores.shape


def test_equal_texts_are_ranked_by_their_place_where_not_all_of_them_fit() -> None:
    index = LexicalIndex([*["rivers and bridges"] * 500, "bread"])
    np.testing.assert_array_equal(index(["rivers"], 7), [range(7)])
    assert (index(["bread"], 7) != NO_ROW).sum() == 1
