"""The table of export targets: the modules of `export.targets`, and those of other packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from multigrain.export import targets
from multigrain.plugins import Registry

if TYPE_CHECKING:
    from multigrain.export.job import Exporter

# Listed, not imported: an exporter's libraries are loaded when it is asked for.
_MODULES: Final = {path.stem: path for folder in targets.__path__ for path in sorted(Path(folder).glob("[a-z]*.py"))}

EXPORTERS: Final[Registry[Exporter]] = Registry(
    kind="exporter",
    group="multigrain.exporters",
    built_in={name: f"{targets.__name__}.{name}:export" for name in _MODULES},
    named_by="--to",
    extras={"onnx": "onnx", "openvino": "openvino"},
)


def forms() -> str:
    """This package's forms, each with what the first line of its module says, for help: nothing is imported."""
    first_lines = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in _MODULES.items()}
    return " ".join(f"{name}: {line.strip(chr(34))}" for name, line in first_lines.items())
