"""Which exporters there are: ours by name, and those of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, cast

from multigrain.errors import ConfigError, MissingExtraError
from multigrain.export.job import Exporter

__all__ = ["BUILT_IN", "GROUP", "exporter", "exporter_names"]

GROUP: Final = "multigrain.exporters"

# Named, not imported: an exporter's libraries are loaded when it is asked for.
BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "folder": "multigrain.export.folder:export_folder",
        "onnx": "multigrain.export.onnx:export_onnx",
        "openvino": "multigrain.export.openvino:export_openvino",
        "tei": "multigrain.export.servers:export_tei",
        "vllm": "multigrain.export.servers:export_vllm",
    }
)
_NEED_EXTRA: Final = ("onnx", "openvino")  # what they import comes with the extra of the same name


def exporter_names() -> list[str]:
    """Every form a model can be exported to, sorted."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def exporter(name: str) -> Exporter:
    """Find an exporter.

    Raises:
        ConfigError: no such exporter, two of one name, or a plug-in that cannot be loaded.
        MissingExtraError: what it needs is not installed.
    """
    plugins = [point for point in entry_points(group=GROUP) if point.name == name]
    if name in BUILT_IN:
        if plugins:
            raise ConfigError(f"exporter {name!r}: {_origin(plugins[0])} offers one of that name, which is ours")
        return _built_in(name)
    if not plugins:
        raise ConfigError(f"--to {name}: no such exporter; known: {', '.join(exporter_names())}")
    if len(plugins) > 1:
        raise ConfigError(f"exporter {name!r} is offered by {_origin(plugins[0])} and {_origin(plugins[1])}")
    try:
        found = plugins[0].load()
    except Exception as error:  # a plug-in's code may raise anything
        raise ConfigError(
            f"exporter {name!r} of {_origin(plugins[0])} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"exporter {name!r} of {_origin(plugins[0])}: {plugins[0].value} is not callable")
    return cast("Exporter", found)


def _built_in(name: str) -> Exporter:
    module, attribute = BUILT_IN[name].split(":")
    try:
        return cast("Exporter", getattr(import_module(module), attribute))
    except ModuleNotFoundError as error:
        if name not in _NEED_EXTRA or error.name is None or error.name.startswith("multigrain"):
            raise
        raise MissingExtraError(error.name, f"--to {name}", f'pip install "multigrain[{name}]"') from None


def _origin(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist is not None else f"{point.value!r}"
