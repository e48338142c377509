"""multigrain: teach a text-embedding model your domain, coarse to fine.

The names below are the public door: those of somebody who runs multigrain from Python, and those that plug-ins are
written with. They load on first use: `import multigrain` pulls in neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multigrain.audit.check import Check, CheckedText, MeasuredRow, Problem
    from multigrain.config import Config, LLMConfig, SynthesisConfig
    from multigrain.config.file import load_config
    from multigrain.encoders.loading import load
    from multigrain.errors import MultigrainError
    from multigrain.evaluation.metrics import Metric
    from multigrain.export.job import Exported, ExportJob
    from multigrain.llm.answers import ask
    from multigrain.llm.protocol import CompletionRequest, LLMClient, Message, UnusableAnswer
    from multigrain.llm.scripted import ScriptedLLM
    from multigrain.model.pooling import AnchorTokenPooling, PoolingKind, TokenPooling
    from multigrain.records import Document, GradedExample, Level, SynthesizedRow
    from multigrain.sources.source import DataSource
    from multigrain.stages import run
    from multigrain.storage.rundir import RunDirectory
    from multigrain.synthesis.plain_text import Text
    from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
    from multigrain.synthesis.strategies.writer import StrategySettings, written_row
    from multigrain.synthesis.synthesize import build_strategy
    from multigrain.tools.describe import compare, describe
    from multigrain.training.losses.registry import LossPlugin, LossSettings

__version__ = version("multigrain")

_HOMES = {
    "multigrain.audit.check": ("Check", "CheckedText", "MeasuredRow", "Problem"),
    "multigrain.config": ("Config", "LLMConfig", "SynthesisConfig"),
    "multigrain.config.file": ("load_config",),
    "multigrain.errors": ("MultigrainError",),
    "multigrain.evaluation.metrics": ("Metric",),
    "multigrain.export.job": ("ExportJob", "Exported"),
    "multigrain.llm.protocol": ("CompletionRequest", "LLMClient", "Message", "UnusableAnswer"),
    "multigrain.llm.scripted": ("ScriptedLLM",),
    "multigrain.llm.answers": ("ask",),
    "multigrain.encoders.loading": ("load",),
    "multigrain.model.pooling": ("AnchorTokenPooling", "PoolingKind", "TokenPooling"),
    "multigrain.records": ("Document", "GradedExample", "Level", "SynthesizedRow"),
    "multigrain.sources.source": ("DataSource",),
    "multigrain.stages": ("run",),
    "multigrain.storage.rundir": ("RunDirectory",),
    "multigrain.synthesis.plain_text": ("Text",),
    "multigrain.synthesis.strategies.protocol": ("Strategy", "WritingUnit"),
    "multigrain.synthesis.strategies.writer": ("StrategySettings", "written_row"),
    "multigrain.synthesis.synthesize": ("build_strategy",),
    "multigrain.tools.describe": ("compare", "describe"),
    "multigrain.training.losses.registry": ("LossPlugin", "LossSettings"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnchorTokenPooling",
    "Check",
    "CheckedText",
    "CompletionRequest",
    "Config",
    "DataSource",
    "Document",
    "ExportJob",
    "Exported",
    "GradedExample",
    "LLMClient",
    "LLMConfig",
    "Level",
    "LossPlugin",
    "LossSettings",
    "MeasuredRow",
    "Message",
    "Metric",
    "MultigrainError",
    "PoolingKind",
    "Problem",
    "RunDirectory",
    "ScriptedLLM",
    "Strategy",
    "StrategySettings",
    "SynthesisConfig",
    "SynthesizedRow",
    "Text",
    "TokenPooling",
    "UnusableAnswer",
    "WritingUnit",
    "__version__",
    "ask",
    "build_strategy",
    "compare",
    "describe",
    "load",
    "load_config",
    "run",
    "written_row",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'multigrain' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
