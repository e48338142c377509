"""The first pass in bfloat16 may be slow on this processor, but what comes of it must not differ from float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from multigrain.mining import search
from multigrain.mining.best import NO_ROW, Best
from multigrain.mining.rounded import RoundedPass
from multigrain.mining.search import top_k


def _unit(rows: int, seed: int, dimensions: int = 24) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "rounding_pays", lambda *_: True)
    monkeypatch.setattr(search, "_CORPUS_BLOCK", 700)
    monkeypatch.setattr(search, "_CORPUS_TILE", 300)
    monkeypatch.setattr(search, "_QUERY_BLOCK", 7)


def _brute(
    queries: np.ndarray, corpus: np.ndarray, k: int, ceilings: np.ndarray | None, out: np.ndarray | None
) -> np.ndarray:
    """The k-th best allowed scores and better, in float64; minus infinity where there are fewer."""
    scores = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    if out is not None:
        scores[:, out] = -np.inf
    if ceilings is not None:
        scores[scores > ceilings[:, None]] = -np.inf
    return -np.sort(-scores, axis=1)[:, :k]


@given(
    seed=st.integers(0, 10_000),
    k=st.sampled_from([1, 5, 40, 400]),
    shift=st.sampled_from([-0.3, 0.0, 0.3]),
    limited=st.booleans(),
    hidden=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_result_is_that_of_float32(seed: int, k: int, shift: float, limited: bool, hidden: bool) -> None:
    queries, corpus = _unit(20, seed), _unit(2_000, seed + 1) + np.float32(shift) * _unit(1, seed + 2)
    ceilings = np.random.default_rng(seed).uniform(-0.2, 0.6, len(queries)).astype(np.float32) if limited else None
    out = np.random.default_rng(seed).random(len(corpus)) < 0.2 if hidden else None
    if ceilings is not None:  # a score that equals its limit but for rounding may be on either side
        assume(np.abs(queries @ corpus.T - ceilings[:, None]).min() > 1e-6)

    scores, rows = top_k(queries, corpus, k, ceilings=ceilings, left_out=out)

    np.testing.assert_allclose(scores, _brute(queries, corpus, k, ceilings, out), atol=2e-6)
    filled = rows != NO_ROW
    own = np.einsum("qkd,qd->qk", corpus[rows], queries)
    np.testing.assert_allclose(scores[filled], own[filled], atol=2e-6)
    assert all(len(set(row[row != NO_ROW])) == (row != NO_ROW).sum() for row in rows)
    assert (scores[:, 1:] <= scores[:, :-1]).all()


def test_most_queries_settle_without_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    repeated: list[int] = []
    plain = search._search
    monkeypatch.setattr(
        search, "_search", lambda queries, *rest: repeated.append(len(queries)) or plain(queries, *rest)
    )

    top_k(_unit(60, 1, 128), _unit(3_000, 2, 128), 20)

    assert sum(repeated) <= 6


def test_where_rounding_hides_the_order_float32_decides() -> None:
    """A thousand vectors that bfloat16 cannot tell apart, and equal ones among them."""
    base, noise = _unit(1, 0, 64), _unit(1_500, 1, 64)
    corpus = base + np.float32(1e-4) * noise
    corpus[1::2] = corpus[::2]
    queries = np.repeat(base, 9, axis=0) + np.float32(1e-3) * _unit(9, 2, 64)

    scores, rows = top_k(queries, corpus, 30)

    np.testing.assert_allclose(scores, _brute(queries, corpus, 30, None, None), atol=2e-6)
    pairs = rows.reshape(len(rows), -1, 2)
    assert (pairs[:, :, 0] % 2 == 0).all()
    assert (pairs[:, :, 1] == pairs[:, :, 0] + 1).all()  # equal scores: the smaller index first


def test_a_processor_that_multiplies_worse_than_it_should_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def sloppy(queries_tile: Any, corpus_tile: Any, out: Any) -> None:
        exact = queries_tile.float() @ corpus_tile.float()
        out.copy_(exact + 0.05 * torch.sin(1e4 * exact))

    queries, corpus = _unit(20, 3, 64), _unit(2_000, 4, 64)
    monkeypatch.setattr(torch, "mm", sloppy)

    scores, _ = top_k(queries, corpus, 25)

    np.testing.assert_allclose(scores, _brute(queries, corpus, 25, None, None), atol=2e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rounded_scores_keep_to_the_bound(scale: float) -> None:
    """Numbers of very different magnitude, so that a few terms decide each sum."""
    chance = np.random.default_rng(5)
    queries = (chance.normal(size=(40, 200)) * np.exp(chance.normal(0, 3, (40, 200)))).astype(np.float32)
    corpus = (scale * chance.normal(size=(900, 200)) * np.exp(chance.normal(0, 3, (900, 200)))).astype(np.float32)
    first = RoundedPass(queries, 5, None)
    rounded = torch.empty(corpus.shape, dtype=torch.bfloat16)
    first.round(corpus, rounded)

    scores = torch.mm(torch.from_numpy(queries).bfloat16(), rounded.T).float().numpy()

    apart = np.abs(scores.astype(np.float64) - queries.astype(np.float64) @ corpus.T.astype(np.float64))
    bound = first._bound(slice(None), scores)
    assert (apart <= bound).all()
    assert (apart > 0).any()  # the premise: rounding does something here


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 30),
    low=st.sampled_from([-1.0, 0.0]),
    limited=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_bits_of_bfloat16_are_picked_as_their_numbers_are(seed: int, k: int, low: float, limited: bool) -> None:
    chance = torch.Generator().manual_seed(seed)
    tiles = [(torch.rand(4, 90, generator=chance) * (1 - low) + low).bfloat16() for _ in range(3)]
    ceilings = np.random.default_rng(seed).uniform(low, 1, (4, 1)).astype(np.float32) if limited else None
    # Ceilings are rounded up: to the next number that bfloat16 has.
    tops = None if ceilings is None else np.asarray([[_above(float(limit))] for limit in ceilings[:, 0]], np.float32)
    by_bits, by_numbers = Best.empty(4, k), Best.empty(4, k)

    for number, tile in enumerate(tiles):
        by_bits.offer_bf16(slice(0, 4), tile.view(torch.int16).numpy(), 90 * number, ceilings)
        by_numbers.offer(slice(0, 4), tile.float().numpy(), 90 * number, tops)

    by_bits.merge(slice(0, 4))
    by_numbers.merge(slice(0, 4))
    for from_bits, from_numbers in zip(by_bits.result(), by_numbers.result(), strict=True):
        np.testing.assert_array_equal(from_bits, from_numbers)


def _above(value: float) -> float:
    """The smallest bfloat16 number that is no smaller."""
    near = torch.tensor(value, dtype=torch.bfloat16)
    return float(near if float(near) >= value else torch.nextafter(near, torch.tensor(1e9, dtype=torch.bfloat16)))
