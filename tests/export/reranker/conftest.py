"""Rerankers whose scores differ enough to be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder
from tests.export.conftest import minilm_reference, small_set

from multigrain.config import TrainingConfig
from multigrain.model.reranker import build_reranker, save_reranker

__all__ = ["minilm_reference", "reranker_of", "small_reranker", "small_set"]


def reranker_of(base: str, tokens: int) -> CrossEncoder:
    """A reranker with a head of large random weights: those of a fresh one give all pairs the same score."""
    settings = TrainingConfig.model_validate({"kind": "reranker", "base_model": base, "max_seq_length": tokens})
    model = build_reranker(settings.resolve("tuned"), seed=3, device="cpu").eval()
    head = model.transformers_model.classifier  # type: ignore[union-attr]
    with torch.no_grad():
        head.weight.mul_(40)  # type: ignore[union-attr]
    return model


@pytest.fixture(scope="session")
def small_reranker(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small one."""
    folder = tmp_path_factory.mktemp("reranker") / "small"
    save_reranker(reranker_of(str(small_bert), 24), folder)
    return folder


@pytest.fixture
def load_small(small_reranker: Path) -> Callable[[], CrossEncoder]:
    """Loads it anew."""
    return lambda: CrossEncoder(str(small_reranker), device="cpu").eval()
