"""One model to train: what it sets of its own, and which other candidates it is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import Field

from multigrain.config.bases import (
    AdaptersName,
    AtaConfig,
    AttentionName,
    LoraConfig,
    PromptsConfig,
    QuantizeName,
    QueryAdapterConfig,
    SideName,
)
from multigrain.config.paths import CANDIDATE, LossOptions, ModelReference
from multigrain.config.poolings import POOLING_NAMES, PoolingName
from multigrain.config.section import Section
from multigrain.config.teachers import TeacherConfig, Teachers

ModelKind = Literal["embedder", "reranker"]
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
Steps = Annotated[int, Field(ge=1)] | Literal["auto"]

RERANKER_LOSS: Final = "lambda"
"""The loss of a reranker that names none."""
RERANKER_SCHEDULE: Final[ScheduleName] = "listwise"
"""The schedule of a reranker that names none."""


class CandidateConfig(Section):
    """One model to train; what is left out is taken from `training`."""

    kind: ModelKind | None = None
    """embedder or reranker. A reranker beside embedders shares neither loss, teacher, schedule nor adapters."""

    base_model: ModelReference | None = None
    """Rerankers only: another base, or candidate:NAME, an embedder of this run once it is tuned."""

    pooling: PoolingName | None = Field(default=None, description=f"One of {POOLING_NAMES}.")

    ata: AtaConfig | None = None
    """Options of ATA pooling of its own."""

    schedule: ScheduleName | None = None
    """The order in which levels are visited."""

    steps: Steps | None = None
    """Optimiser steps."""

    batch_size: int | None = Field(default=None, ge=2)
    """Queries a step."""

    max_seq_length: int | None = Field(default=None, ge=8)
    """Tokens of a text, or of a reranker's pair, that are read."""

    learning_rate: LearningRate | None = None
    """Peak learning rate, or a list of which validation queries choose one."""

    loss: str | None = None
    """The loss; its options are shared by all candidates that name none."""

    loss_options: LossOptions | None = None
    """Options of the loss."""

    teacher: Teachers | None = None
    """Whose scores the loss learns from."""

    teacher_margin: float | None = None
    """Which negatives the teacher takes for answers."""

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


def for_rerankers(kind: ModelKind, loss: str) -> dict[str, Any]:
    """What a reranker takes instead of what `training` says for embedders.

    Args:
        kind: of candidates that name none.
        loss: likewise.
    """
    beside: dict[str, Any] = {
        "loss_options": {},
        "teacher": [],
        "teacher_margin": None,
        "schedule": RERANKER_SCHEDULE,
        "rows": "all",
        "lora": None,
        "attn_implementation": None,
    }
    return {
        **(beside if kind == "embedder" else {}),
        "loss": RERANKER_LOSS if kind == "embedder" or loss == "infonce" else loss,
        "pooling": "keep",
        "ata": AtaConfig(),
        "prompts": PromptsConfig(),
        "append_eos": None,
        "attention": "keep",
        "quantize": "none",
        "adapters": "merged",
        "mini_batch_size": None,
        "matryoshka": [],
        "mix": [],
        "graded_weight": 1.0,
        "gather_across_devices": True,
        "merge": None,
        "side": "both",
        "query_adapter": None,
    }


def wrong_for_rerankers_alone(training: Section) -> str:
    """What `training` sets that no reranker heeds or can have, in words; empty where there is nothing.

    Args:
        training: of a run that trains rerankers alone.
    """
    fields = type(training).model_fields
    for key, value in for_rerankers("reranker", RERANKER_LOSS).items():
        # The loss is theirs; prompts are also those of the base embedder, whose finds are sorted.
        unset = fields[key].get_default(call_default_factory=True)
        if key not in ("loss", "prompts", "append_eos") and getattr(training, key) not in (value, unset):
            return f"{key}: this run trains rerankers alone, and a reranker has none; leave it out"
    if getattr(training, "attn_implementation", None) == "flash_attention_2":
        return "attn_implementation: flash_attention_2 computes in bf16, and rerankers score in float32; use sdpa"
    return ""


def candidate_named(reference: str) -> str | None:
    """The candidate that a model's reference names; None for a model of another kind."""
    return reference.removeprefix(CANDIDATE) if reference.startswith(CANDIDATE) else None


class CandidateSettings(Protocol):
    """What is looked at of a candidate's settings, resolved."""

    @property
    def kind(self) -> ModelKind:
        """Embedder or reranker."""
        ...

    @property
    def base_model(self) -> str:
        """What it is tuned from."""
        ...

    @property
    def teacher(self) -> Sequence[TeacherConfig]:
        """Whose scores it learns from."""
        ...

    @property
    def schedule(self) -> ScheduleName:
        """The order of levels."""
        ...

    @property
    def side(self) -> SideName:
        """What is tuned of it."""
        ...

    @property
    def fsdp(self) -> bool:
        """Whether its training is sharded."""
        ...


def in_order(settings: Mapping[str, CandidateSettings]) -> tuple[str, ...]:
    """The names of all candidates, each after those that it is made from.

    Raises:
        ValueError: one is made from a candidate that is not there, from one of the wrong kind, or from itself.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name, own in settings.items():
        base = candidate_named(own.base_model)
        teachers = [other for teacher in own.teacher if (other := candidate_named(teacher.model)) is not None]
        for other in (*([] if base is None else [base]), *teachers):
            if other not in settings:
                raise ValueError(
                    f"candidate {name!r} is made from candidate {other!r}, and there is none of that name"
                )
        if base is not None and settings[base].kind != "embedder":
            raise ValueError(f"candidate {name!r}: base_model: {base!r} is a reranker; name an embedder")
        if base is not None and settings[base].side == "query":
            raise ValueError(
                f"candidate {name!r}: base_model: {base!r} holds one way for queries and one for documents (side: "
                "query), and a reranker is tuned from one transformer; name an embedder with side: both"
            )
        sorter.add(name, *([] if base is None else [base]), *teachers)
    try:
        return tuple(sorter.static_order())
    except CycleError as error:
        raise ValueError(f"candidates are made from each other: {' from '.join(error.args[1])}") from None


def wrong_in_kind(settings: CandidateSettings, candidate: CandidateConfig) -> str:
    """What a candidate sets that its kind has no use for, in words; empty where there is none."""
    if settings.kind == "embedder":
        if candidate.base_model is not None:
            return (
                "base_model of its own is for rerankers; embedders share training.base_model, which is their baseline"
            )
        if candidate_named(settings.base_model) is not None:
            return f"base_model: {settings.base_model} is for rerankers"
        return ""
    for key in ("pooling", "ata", "attention", "merge", "side", "query_adapter"):
        if getattr(candidate, key) is not None:
            return f"{key}: a reranker has none; leave it out"
    if settings.fsdp:
        return "fsdp shards embedders alone; train the reranker in a run of its own"
    if settings.schedule == "in-batch":
        return "schedule: in-batch gives a reranker nothing to compare; use listwise or a schedule of levels"
    return ""


def unable_on_one_side(settings: CandidateSettings, quantize: QuantizeName, adapters: AdaptersName) -> str:
    """What cannot be had where queries alone are tuned, in words; empty where all can."""
    if settings.fsdp:
        return "fsdp shards models of one transformer; use fsdp: false"
    if quantize != "none":
        return f"quantize: {quantize} cannot be saved beside it; use lora alone (quantize: none)"
    if adapters == "apart":
        return "adapters: apart cannot be saved beside it; use adapters: merged"
    return ""
