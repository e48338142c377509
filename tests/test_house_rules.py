"""Rules that keep the project easy to find one's way in."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import multigrain

SOURCE = Path(multigrain.__file__).parent
ROOT = Path(__file__).resolve().parents[1]


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_imports_follow_the_contracts_of_pyproject() -> None:
    linted = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("config", "from multigrain.cli import console"),
        ("audit", "from multigrain.export import hub"),
        ("new", "from multigrain import errors"),
    ],
)
def test_the_contracts_see_a_wrong_import(tmp_path: Path, room: str, line: str) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "multigrain", ignore=shutil.ignore_patterns("__pycache__"))
    (package / room).mkdir(exist_ok=True)
    (package / room / "__init__.py").touch()
    (package / room / "wrong.py").write_text(f"{line}\n", encoding="utf-8")

    linted = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo", "--config", ROOT / "pyproject.toml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert linted.returncode == 1
    assert f"multigrain.{room}" in linted.stdout


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_have_one_job(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
    assert path.stem not in {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs a clone and git")
def test_nothing_that_git_ignores_is_tracked() -> None:
    """A tracked .venv, for one, replaces that of whoever checks it out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert listed.stdout == ""


def test_contributing_lists_every_room_in_the_order_of_imports() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`[^|]*`) \|", page.split("| room of")[1].split("\n\n")[0], re.M)
    rooms = [re.findall(r"`(\w+)", cell) for cell in first_cells]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    height = {room: -number for number, layer in enumerate(layers) for room in re.findall(r"\w+", layer)}

    names = [name for row in rooms for name in row]
    assert sorted(names) == sorted(height)
    assert [height[name] for name in names] == sorted(height.values())


def test_every_finding_is_listed() -> None:
    scripts = {path.name for path in (ROOT / "findings").glob("[!_]*.sh")}
    page = (ROOT / "findings" / "README.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `([\w.-]+)` \|", page, re.M)) == scripts


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
