"""Builds the engine that a config names."""

from __future__ import annotations

import importlib.util

from multigrain.config import EngineConfig
from multigrain.display.install import install_line
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.errors import MissingExtraError


def build_engine(config: EngineConfig, *, concurrency: int = 8) -> Engine:
    """The engine that a config names.

    Args:
        config: the `engine` section.
        concurrency: units that wait at once, over all workers.

    Raises:
        MissingExtraError: Ray is asked for and not installed.
        EngineError: the cluster cannot be reached.
    """
    if config.kind == "local":
        return LocalEngine(concurrency=concurrency)
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "engine.kind: ray", install_line("ray"))
    from multigrain.engine.ray import RayEngine

    return RayEngine(config, concurrency=concurrency)
