"""The benchmark of bases: its rows are graded, and a variant goes through the product's own steps."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import train_bases
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.model.encoder import build_encoder

WORDS = [f"w{number}" for number in range(200)]


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    draw = random.Random(2)
    passages = [" ".join(draw.sample(WORDS, 12)) for _ in range(60)]
    return [(" ".join(passage.split()[:4]), passage) for passage in passages]


def test_rows_are_graded_and_never_their_own_negative(small_bert: Path, pairs: list[tuple[str, str]]) -> None:
    model = build_encoder(str(small_bert), device="cpu")
    rows = train_bases.graded_rows(pairs, model, seed=1)

    assert [(row.query, row.positive) for row in rows] == pairs
    for row in rows:
        assert row.positive not in [each.text for each in row.negatives]
        similarities = [each.similarity for each in row.negatives]
        assert similarities == sorted(similarities)
    means = np.mean([[each.similarity for each in row.negatives] for row in rows], axis=0)
    assert means[3] - means[0] > 0.01


def test_a_variant_is_built_trained_saved_and_measured(
    small_bert: Path, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"learning_rate": 1e-3, "max_seq_length": 32, **train_bases.LORA}
    monkeypatch.setitem(train_bases.VARIANTS, "minilm-lora", train_bases.Variant("tiny", settings))
    rows = train_bases.graded_rows(pairs, build_encoder(str(small_bert), device="cpu"), seed=1)
    held_out = EvaluationSet(
        name="own",
        role="test",
        provenance="made",
        corpus={str(number): passage for number, (_, passage) in enumerate(pairs)},
        queries={str(number): query for number, (query, _) in enumerate(pairs)},
        qrels={str(number): {str(number): 1} for number in range(len(pairs))},
    )

    found = train_bases.run_variant("minilm-lora", str(small_bert), rows, held_out, steps=4, batch=8, seed=1)

    assert found["low"] <= found["difference"] <= found["high"]
    assert found["after"] - found["before"] == pytest.approx(found["difference"], abs=2e-4)
    assert 0 < found["weights_that_learn"] < 20_000
    assert str(small_bert) not in found["model"]
