"""multigrain: teach a text-embedding model your domain, coarse to fine.

The names below load on first use: `import multigrain` pulls in neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multigrain.config import Config
    from multigrain.config.file import load_config
    from multigrain.errors import MultigrainError
    from multigrain.model.encoder import load
    from multigrain.model.pooling import AnchorTokenPooling
    from multigrain.records import Document, GradedExample, Level
    from multigrain.stages import run
    from multigrain.storage.rundir import RunDirectory
    from multigrain.tools.describe import compare, describe

__version__ = version("multigrain")

_HOMES = {
    "AnchorTokenPooling": "multigrain.model.pooling",
    "Config": "multigrain.config",
    "Document": "multigrain.records",
    "GradedExample": "multigrain.records",
    "Level": "multigrain.records",
    "MultigrainError": "multigrain.errors",
    "RunDirectory": "multigrain.storage.rundir",
    "compare": "multigrain.tools.describe",
    "describe": "multigrain.tools.describe",
    "load": "multigrain.model.encoder",
    "load_config": "multigrain.config.file",
    "run": "multigrain.stages",
}

__all__ = [
    "AnchorTokenPooling",
    "Config",
    "Document",
    "GradedExample",
    "Level",
    "MultigrainError",
    "RunDirectory",
    "__version__",
    "compare",
    "describe",
    "load",
    "load_config",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'multigrain' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
