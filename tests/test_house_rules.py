"""Rules that keep the project easy to find one's way in."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import multigrain

SOURCE = Path(multigrain.__file__).parent

# Data flows one way, and so do imports: a package may import from those above it, and from itself.
ORDER = [
    "errors",
    "records",
    "config",
    "config_words",
    "config_yaml",
    "config_file",
    "progress",
    "processor",
    "sequences",
    "tables",
    "manifests",
    "rundir",
    "shards",
    "spool",
    "parquet",
    "hub",
    "recipes",
    "config_template",
    "sources",
    "llm",
    "engine",
    "synthesis",
    "mining",
    "audit",
    "dataset",
    "curriculum",
    "model",
    "training",
    "evaluation",
    "ablation",
    "export",
    "report",
    "pipeline",
    "cli",
]


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("multigrain."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("multigrain.")}
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_up_the_list_only(path: Path) -> None:
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):
        return  # the public door names everything, lazily
    allowed = set(ORDER[: ORDER.index(own) + 1])

    assert _imports(path) <= allowed


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_have_one_job(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
    assert path.stem not in {"utils", "util", "common", "helpers", "misc"}


def test_every_public_name_exists_and_all_is_sorted() -> None:
    assert multigrain.__all__ == sorted(multigrain.__all__)
    for name in multigrain.__all__:
        assert getattr(multigrain, name) is not None
    for module in pkgutil.walk_packages([str(SOURCE)], "multigrain."):
        loaded = importlib.import_module(module.name)
        for name in getattr(loaded, "__all__", ()):
            assert hasattr(loaded, name), f"{module.name}.{name}"


@pytest.mark.parametrize(
    "arguments", [["-c", "import multigrain"], ["-m", "multigrain", "--help"], ["-m", "multigrain", "run", "--help"]]
)
def test_importing_and_help_load_no_heavy_library(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}

    assert "multigrain" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "sentence_transformers", "datasets", "mteb", "pandas", "scipy"})
