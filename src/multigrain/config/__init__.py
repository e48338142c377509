"""The run's configuration: typed, closed, and reported on all at once.

A config is a YAML file. Unknown keys are refused with the nearest known one, and every problem in a file is
listed in a single error. The field docs below are the text that `multigrain init` writes as comments.
"""

from multigrain.config.audit import (
    AuditChecks,
    AuditConfig,
    Band,
    CrossEncoderConfig,
    DecontaminationConfig,
    JudgeConfig,
    ProbeConfig,
    QueryJudgeConfig,
    Repair,
)
from multigrain.config.bases import (
    AttentionImplementation,
    AttentionName,
    DocumentVectorsConfig,
    LoraConfig,
    PromptsConfig,
    QuantizeName,
    QueryAdapterConfig,
)
from multigrain.config.candidates import CandidateConfig, Merge, ModelKind, RowSharing, ScheduleName
from multigrain.config.curriculum import MixSourceConfig, PhaseConfig
from multigrain.config.documents import DocumentsConfig, PairsConfig
from multigrain.config.evaluation import EvaluationSetConfig
from multigrain.config.llm import EndpointConfig, LLMConfig, PriceConfig
from multigrain.config.poolings import PoolingName
from multigrain.config.root import Config, EngineConfig, fingerprint
from multigrain.config.synthesis import QueryType, SynthesisConfig, TasksConfig
from multigrain.config.teachers import TeacherConfig
from multigrain.config.training import TrainingConfig

__all__ = [
    "AttentionImplementation",
    "AttentionName",
    "AuditChecks",
    "AuditConfig",
    "Band",
    "CandidateConfig",
    "Config",
    "CrossEncoderConfig",
    "DecontaminationConfig",
    "DocumentVectorsConfig",
    "DocumentsConfig",
    "EndpointConfig",
    "EngineConfig",
    "EvaluationSetConfig",
    "JudgeConfig",
    "LLMConfig",
    "LoraConfig",
    "Merge",
    "MixSourceConfig",
    "ModelKind",
    "PairsConfig",
    "PhaseConfig",
    "PoolingName",
    "PriceConfig",
    "ProbeConfig",
    "PromptsConfig",
    "QuantizeName",
    "QueryAdapterConfig",
    "QueryJudgeConfig",
    "QueryType",
    "Repair",
    "RowSharing",
    "ScheduleName",
    "SynthesisConfig",
    "TasksConfig",
    "TeacherConfig",
    "TrainingConfig",
    "fingerprint",
]
