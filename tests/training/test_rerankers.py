"""Rerankers: the losses that they are trained by, and training that is stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder

from multigrain.config import TrainingConfig
from multigrain.model.reranker import build_reranker
from multigrain.training.train import train_candidate

from .graded import largest_difference, scored_examples

SEED = 7
CASES: dict[str, dict[str, Any]] = {
    "levels": {"loss": "binary", "schedule": "coarse-to-fine", "accumulation": 2},
    "lists": {},
    "distil": {"loss": "distil", "teacher": "judge", "schedule": "cumulative"},
}


def settings(base: Path, **values: object) -> TrainingConfig:
    """A reranker's settings: eight steps that drop as the model does."""
    shared = {
        "kind": "reranker",
        "base_model": str(base),
        "steps": 8,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "precision": "float32",
        "checkpoint_every": 3,
        "dropout": None,
        "max_seq_length": 32,
        "schedule": "listwise",
    }
    return TrainingConfig.model_validate({**shared, **values}).resolve("tuned")


class StoppedError(Exception):
    """Plays the machine that goes down."""


@pytest.mark.parametrize("case", CASES)
def test_resuming_ends_with_the_same_weights(small_bert: Path, tmp_path: Path, case: str) -> None:
    config = settings(small_bert, **CASES[case])

    def train(checkpoints: Path, stop_at: int = 0) -> tuple[CrossEncoder, Any]:
        model = build_reranker(config, seed=SEED, device="cpu")

        def on_step(step: int, steps: int, loss: float) -> None:
            if step == stop_at:
                raise StoppedError

        log = train_candidate(
            model, scored_examples(), config, name="r", seed=SEED, checkpoints=checkpoints, on_step=on_step
        )
        return model, log

    whole, log = train(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tmp_path / "cut", stop_at=5)
    resumed, again = train(tmp_path / "cut")

    assert largest_difference(whole, resumed) <= 1e-6
    assert [step.loss for step in again.history] == pytest.approx([step.loss for step in log.history], abs=1e-6)
    before = build_reranker(config, seed=SEED, device="cpu")
    assert largest_difference(whole, before) > 1e-4
    moved = bool(
        (whole.transformers_model.classifier.bias - before.transformers_model.classifier.bias).abs().max() > 0
    )
    assert moved == (config.loss == "binary"), "a shift of all scores is nothing to a loss over lists"
