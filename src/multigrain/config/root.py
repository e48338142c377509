"""The whole config, where its work runs, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from multigrain.config.audit import AuditConfig
from multigrain.config.documents import DocumentsConfig, PairsConfig
from multigrain.config.evaluation import EvaluationConfig
from multigrain.config.llm import LLMConfig
from multigrain.config.section import Section
from multigrain.config.synthesis import LABEL_STRATEGIES, LEVELS_TO_MINE, SynthesisConfig, TasksConfig
from multigrain.config.training import TrainingConfig

_AUTO_CANDIDATES: Final = 8


class EngineConfig(Section):
    """Where requests are sent from, and where texts are embedded and searched. Decides nothing about the results."""

    kind: Literal["local", "ray"] = "local"
    """local: this process. ray: workers of a Ray cluster (extra `ray`); the journal stays with this
    process."""

    address: str | None = None
    """ray only: the cluster, e.g. auto on one of its nodes (null: $RAY_ADDRESS, else Ray is started here)."""

    workers: int | None = Field(default=None, ge=1)
    """ray only: how many (null: one a node, or one for each gpus_per_worker GPUs). They share `llm.concurrency`."""

    cpus_per_worker: float = Field(default=1.0, ge=0)
    """ray only: CPUs that each worker reserves."""

    gpus_per_worker: float = Field(default=0.0, ge=0)
    """ray only: GPUs that each worker reserves, for embedding."""

    object_store_mb: int = Field(default=200, ge=80)
    """ray only: shared memory of a Ray that is started here; units and results are small."""

    store: str | None = None
    """The address of a folder on an object store, e.g. s3://bucket/runs/mine (extra `s3`), or of any file system that
    fsspec knows: every complete stage is copied there, and a run directory that lacks it takes it from there. One run
    writes at a time (null: nowhere)."""

    start_seconds: float = Field(default=300.0, gt=0)
    """ray only: how long to wait for a worker where none is left, e.g. for a node to join."""


class Config(Section):
    """Everything that decides a run. Same config, seed and inputs: same data set and, on one device, same model."""

    seed: int = Field(default=13, ge=0)
    """Seeds sampling, splitting, writing and training."""

    start_from: Literal["documents", "tasks", "pairs"] = "documents"
    """documents: queries and negatives are written for them. tasks: everything is written. pairs: queries and the
    passages that answer them are given, negatives are written."""

    documents: DocumentsConfig = Field(default_factory=DocumentsConfig)
    tasks: TasksConfig = Field(default_factory=TasksConfig)
    pairs: PairsConfig = Field(default_factory=PairsConfig)
    llm: LLMConfig = Field(default_factory=LLMConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    synthesis: SynthesisConfig = Field(default_factory=SynthesisConfig)
    audit: AuditConfig = Field(default_factory=AuditConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @model_validator(mode="after")
    def _starting_point_is_complete(self) -> Self:
        if self.start_from == "pairs" and self.pairs.path is None:
            raise ValueError("start_from: pairs needs pairs.path")
        if self.start_from == "pairs" and self.documents.chunk_size is not None:
            raise ValueError("documents.chunk_size: given positives are not chunked; leave it out")
        if self.start_from == "tasks" and self.documents.path is not None:
            raise ValueError("start_from: tasks has no documents; leave documents.path out")
        if self.start_from != "documents" and self.evaluation.queries == "titles":
            raise ValueError(f"evaluation.queries: start_from: {self.start_from} has no titles; leave it at auto")
        if self.start_from == "tasks" and self.evaluation.llm is not None:
            raise ValueError("evaluation.llm: start_from: tasks has no documents to ask about; leave it out")
        if self.start_from == "pairs" and self.evaluation.queries == "synthetic":
            raise ValueError("evaluation.queries: start_from: pairs asks with held-out pairs; leave it at auto")
        return self

    @model_validator(mode="after")
    def _labels_are_negatives_of_each_other(self) -> Self:
        if self.pairs.labels is None:
            if self.pairs.texts_per_label:
                raise ValueError("pairs.texts_per_label needs pairs.labels: a table of labels")
            return self
        if self.start_from != "pairs":
            raise ValueError("pairs.labels needs start_from: pairs, and the labelled texts under pairs.path")
        others = sorted(self.synthesis.strategy_weights.keys() - LABEL_STRATEGIES)
        if others:
            raise ValueError(
                f"pairs.labels: the other labels are the negatives, so none is written: set synthesis.strategy: "
                f"mined-bands instead of {others[0]}"
            )
        return self

    @property
    def audit_in_use(self) -> AuditConfig:
        """The `audit` section with `candidates` resolved.

        Given labels are all there are, and a text has those that it is given: no other one is a false negative,
        however near it is.
        """
        audit = self.audit.model_copy(update={"candidates": self.candidates_kept})
        if self.pairs.labels is None:
            return audit
        return audit.model_copy(update={"checks": audit.checks.model_copy(update={"false_negatives": False})})

    @property
    def candidates_kept(self) -> int:
        """How many candidates the audit keeps with a row (`audit.candidates`, resolved)."""
        if self.audit.candidates != "auto":
            return self.audit.candidates
        taught = any(self.training.resolve(name).teacher for name in self.training.candidates)
        return _AUTO_CANDIDATES if taught or self.audit.false_negatives == "keep-as-positive" else 0

    @property
    def judge_probabilities(self) -> bool:
        """Whether judgments of passages are asked for with the grades' probabilities, as a teacher wants them.

        The audit's are then too: a teacher need not ask about the same passage again.
        """
        settings = map(self.training.resolve, self.training.candidates)
        return any(teacher.probabilities for candidate in settings for teacher in candidate.teacher)

    @property
    def asks_language_model(self) -> bool:
        """Whether a run asks the language model of `llm` for anything: to write, or to judge."""
        writes = self.start_from != "pairs" or not self.synthesis.strategy_weights.keys() <= LABEL_STRATEGIES
        settings = map(self.training.resolve, self.training.candidates)
        teaches = any(teacher.is_judge for candidate in settings for teacher in candidate.teacher)
        writes = writes or self.pairs.texts_per_label > 0
        return writes or teaches or self.audit.judge is not None or self.audit.query_judge is not None

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: Any) -> Any:
        # A section whose every line is commented out is None in YAML, and means the defaults.
        if isinstance(values, dict):
            return {key: {} if value is None and key in cls.model_fields else value for key, value in values.items()}
        return values

    @model_validator(mode="after")
    def _every_level_has_a_source(self) -> Self:
        short = sorted(LEVELS_TO_MINE & self.synthesis.strategy_weights.keys())
        if self.audit.negatives == "written" and short:
            raise ValueError(
                f"synthesis.strategy {short[0]!r} leaves levels to be mined, so no row of it could be kept with "
                "audit.negatives: written; set that to hybrid"
            )
        return self


def fingerprint(*parts: Any) -> str:
    """A stable SHA-256 over JSON-like values and config sections, for manifests and journal keys."""
    plain = [_plain(part) for part in parts]
    return hashlib.sha256(
        json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    ).hexdigest()


def _plain(part: Any) -> Any:
    if isinstance(part, Section):
        return part.fingerprinted()
    return part.model_dump(mode="json") if isinstance(part, BaseModel) else part
