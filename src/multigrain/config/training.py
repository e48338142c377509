"""How models are tuned."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from multigrain.config.section import Section

__all__ = ["CandidateConfig", "PoolingName", "ScheduleName", "TrainingConfig"]

PoolingName = Literal["keep", "ata", "mean", "cls", "last", "weighted-mean", "diagonal", "values"]
ScheduleName = Literal[
    "coarse-to-fine", "reverse", "random", "mixed", "fixed-1", "fixed-2", "fixed-3", "fixed-4", "in-batch"
]


class CandidateConfig(Section):
    """One model to train; what is left out is taken from `training`."""

    pooling: PoolingName | None = None
    """keep (the base model's own), ata, mean, cls or last."""

    schedule: ScheduleName | None = None
    """The order in which levels are visited."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate."""


class TrainingConfig(Section):
    """How the embedding model is tuned."""

    base_model: str = "auto"
    """A hub id, a folder, package:NAME, or auto (all-MiniLM-L6-v2)."""

    trust_remote_code: bool = False
    """Run code that comes with the base model. Off unless you trust its author."""

    pooling: PoolingName = "keep"
    """keep (the base model's own), ata (anchor-token-aware), mean, cls, last, weighted-mean (later tokens count more),
    diagonal (weighted by the attention a token gives itself) or values (means of attention's value vectors)."""

    schedule: ScheduleName = "coarse-to-fine"
    """The order in which levels are visited; in-batch uses no hard negatives."""

    steps: int = Field(default=200, ge=1)
    """Optimiser steps of the whole run."""

    batch_size: int = Field(default=32, ge=2)
    """Queries a step."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate (linear warm-up, then linear decay)."""

    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps that warm up."""

    temperature: float = Field(default=0.05, gt=0)
    """InfoNCE temperature: similarities are divided by it."""

    max_seq_length: int | None = Field(default=256, ge=8)
    """Tokens of a text that are read, in training and evaluation (null: the base model's own)."""

    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 where the device computes it natively, else float32."""

    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints to resume from."""

    candidates: dict[str, CandidateConfig] = Field(default_factory=lambda: {"tuned": CandidateConfig()})
    """The models to train, by name. Validation queries choose between them."""

    @model_validator(mode="after")
    def _candidates_are_named(self) -> Self:
        if not self.candidates:
            raise ValueError("candidates must name at least one model to train")
        for name in self.candidates:
            if not name.replace("_", "").replace("-", "").isalnum() or name == "base":
                raise ValueError(f"candidate name {name!r}: use letters, digits, - and _ (and not 'base')")
        return self

    def resolve(self, name: str) -> TrainingConfig:
        """The settings of one candidate, with its overrides applied and no further candidates.

        Args:
            name: a key of `candidates`.
        """
        overrides = self.candidates[name].model_dump(exclude_none=True)
        return self.model_copy(update={**overrides, "candidates": {name: CandidateConfig()}})
