"""Vectors that cannot be used: a text costs itself, a model that gives none is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.vectors import VectorCheck
from multigrain.errors import EvaluationError

from .test_encoder import static_model


@given(
    bad=st.sets(st.integers(0, 39), max_size=40),
    poison=st.sampled_from([0.0, float("nan"), float("inf")]),
    seed=st.integers(0, 99),
)
def test_few_cost_themselves_and_many_are_refused(bad: set[int], poison: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(40, 3)).astype(np.float32)
    spoilt = vectors.copy()
    spoilt[sorted(bad)] = poison
    texts = [f"text {number}" for number in range(40)]
    if len(bad) > 4:
        with pytest.raises(EvaluationError, match=rf"document {min(bad) + 1} of 40 \('text {min(bad)}'\)"):
            VectorCheck("m")(spoilt, texts, "document")
        return
    checked = VectorCheck("m")(spoilt, texts, "document")
    good = [number for number in range(40) if number not in bad]
    np.testing.assert_array_equal(checked[good], vectors[good])
    assert not checked[sorted(bad)].any()


def test_what_came_before_counts_and_blank_texts_do_not() -> None:
    check = VectorCheck("m")
    one, nothing = np.eye(1, 3, dtype=np.float32), np.zeros((1, 3), dtype=np.float32)
    for _ in range(3):
        check(one, ["a"], "query")
        check(nothing, [" "], "query")
    check(nothing, ["b"], "query")
    with pytest.raises(EvaluationError, match=r"query 1 of 1 \('c'\).*2 of 5 texts so far"):
        check(nothing, ["c"], "query")


def test_one_vector_for_everything_is_refused_and_for_a_few_texts_is_not() -> None:
    same = np.ones((5, 3), dtype=np.float32)
    VectorCheck("m")(same, ["a", "a", "b", "c", "c"], "query")
    with pytest.raises(
        EvaluationError, match=r"same vector for 5 different texts.*query 1 \('a'\) and query 2 \('b'\)"
    ):
        VectorCheck("m")(same, ["a", "b", "c", "d", "e"], "query")


def test_a_loaded_model_is_looked_over_too(caplog: pytest.LogCaptureFixture) -> None:
    model = static_model()
    with torch.no_grad():
        next(model.parameters())[3] = float("nan")  # "owl"
    texts = ["cat", "dog", "owl", "dog cat", "cat dog dog"]
    with caplog.at_level(logging.WARNING):
        vectors = SentenceTransformerEncoder(model).encode_documents(texts)
    assert [bool(vector.any()) for vector in vectors] == [True, True, False, True, True]
    assert "document 3 of 5 ('owl'): not finite (NaN)" in caplog.text
    with torch.no_grad():
        next(model.parameters())[:] = 0
    with pytest.raises(EvaluationError, match=r"document 1 of 5 \('cat'\): a vector of zeros"):
        SentenceTransformerEncoder(model).encode_documents(texts)
