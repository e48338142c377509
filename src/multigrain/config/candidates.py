"""What one of several models to train may have of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from multigrain.config.bases import AtaConfig, AttentionName, LoraConfig, QueryAdapterConfig, SideName
from multigrain.config.paths import LossOptions
from multigrain.config.poolings import POOLING_NAMES, PoolingName
from multigrain.config.section import Section
from multigrain.config.teachers import Teachers

ScheduleName = Literal[
    "coarse-to-fine",
    "reverse",
    "random",
    "mixed",
    "cumulative",
    "fixed-1",
    "fixed-2",
    "fixed-3",
    "fixed-4",
    "listwise",
    "in-batch",
    "custom",
]
RowSharing = Literal["all", "split"]
_Share = Annotated[float, Field(gt=0, le=1)]
_Rate = Annotated[float, Field(gt=0)]
Merge = _Share | list[_Share] | Literal["auto"]
LearningRate = _Rate | Annotated[list[_Rate], Field(min_length=1)] | Literal["auto"]


class CandidateConfig(Section):
    """One model to train; what is left out is taken from `training`."""

    pooling: PoolingName | None = Field(default=None, description=f"One of {POOLING_NAMES}.")

    ata: AtaConfig | None = None
    """Options of ATA pooling of its own."""

    schedule: ScheduleName | None = None
    """The order in which levels are visited."""

    learning_rate: LearningRate | None = None
    """Peak learning rate, or a list of which validation queries choose one."""

    loss: str | None = None
    """The loss; its options are shared by all candidates that name none."""

    loss_options: LossOptions | None = None
    """Options of the loss."""

    teacher: Teachers | None = None
    """Whose scores the loss learns from."""

    rows: RowSharing | None = None
    """Whether each level sees all rows, or its own."""

    merge: Merge | None = None
    """How much of the tuned weights to keep; 1 for all."""

    attention: AttentionName | None = None
    """Decoders only: keep, causal or bidirectional."""

    lora: LoraConfig | None = None
    """Low-rank adapters of its own."""

    side: SideName | None = None
    """What is tuned: both, or query."""

    query_adapter: QueryAdapterConfig | None = None
    """A map behind the base that moves queries alone."""
