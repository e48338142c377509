"""Graded rows of made-up words, and a model small enough to train in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.config import TrainingConfig
from multigrain.model.encoder import build_encoder
from multigrain.records import LEVELS, GradedExample, Negative, Origin, Passage, ScoreScale

__all__ = ["config_of", "encoder", "examples", "largest_difference", "scored_examples"]


def examples(rows: int = 24) -> list[GradedExample]:
    """Rows that share no text."""

    def negative(row: int, level: int) -> Negative:
        return Negative(f"w{row} w{150 + level} w{level * 9 + row}", LEVELS[level - 1], Origin.MINED, 0.1 * level)

    return [
        GradedExample(
            id=f"r{row}",
            document_id=f"d{row}",
            query=f"river w{row}",
            positive=f"engine w{row} w{row + 30}",
            negatives=tuple(negative(row, level) for level in (1, 2, 3, 4)),  # type: ignore[arg-type]
            positive_similarity=0.9,
        )
        for row in range(rows)
    ]


def scored_examples(rows: int = 24) -> list[GradedExample]:
    """The same rows with five candidates that rows share, and a teacher's scores of everything."""
    return [
        replace(
            row,
            scale=ScoreScale.GRADE,
            positive_score=4.5,
            negatives=tuple(replace(negative, score=0.7 * negative.level) for negative in row.negatives),
            candidates=tuple(
                Passage(
                    f"w{100 + (number + place) % 40} w{place}", Origin.MINED, 0.1 * place, (number + place) % 4 + 0.3
                )
                for place in range(5)
            ),
        )
        for number, row in enumerate(examples(rows))
    ]


def config_of(**values: object) -> TrainingConfig:
    """Settings of a run of eight steps that drop as the model does: what is dropped has to be resumed too."""
    settings = {
        "steps": 8,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "precision": "float32",
        "checkpoint_every": 1,
        "dropout": None,
    }
    return TrainingConfig.model_validate({**settings, **values})


def encoder(folder: Path, *, dropout: bool = True, pooling: str = "mean") -> SentenceTransformer:
    """The small model on the CPU."""
    model = build_encoder(str(folder), pooling=pooling, device="cpu")  # type: ignore[arg-type]
    if not dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model


def largest_difference(one: SentenceTransformer | CrossEncoder, other: SentenceTransformer | CrossEncoder) -> float:
    """Between the weights of two models."""
    found = other.state_dict()
    return max(float((weight - found[name]).abs().max()) for name, weight in one.state_dict().items())
