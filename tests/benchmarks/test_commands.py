"""Benchmarks that the docs name as files are started as files: from anywhere, without this folder on the path."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import multigrain

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"python (?:(benchmarks/\w+\.py)|-m (benchmarks\.\w+))")


def named_commands() -> list[tuple[str, ...]]:
    """What the docs, and the benchmarks' own docstrings, tell a reader to run; those without options left out."""
    paths = [path for folder in ("docs", "benchmarks") for path in (ROOT / folder).rglob("*.*")]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix in (".md", ".py")]
    found = {match.groups() for text in texts for match in NAMED.finditer(text)}
    return sorted(
        (str(ROOT / file),) if file else ("-m", module)
        for file, module in found
        if "argparse" in (ROOT / (file or f"{module.replace('.', '/')}.py")).read_text(encoding="utf-8")
    )


MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_finds_what_it_imports(name: str) -> None:
    assert importlib.import_module(f"benchmarks.{name}").__doc__


@pytest.mark.slow
def test_every_benchmark_that_is_named_starts(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(multigrain.__file__).parents[1])}

    def usage(command: tuple[str, ...]) -> str:
        place = ROOT if command[0] == "-m" else tmp_path
        done = subprocess.run(
            [sys.executable, *command, "--help"],
            check=False,
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    commands = named_commands()
    assert len(commands) > 10
    with ThreadPoolExecutor(2) as pool:
        assert all(text.startswith("usage: ") for text in pool.map(usage, commands))
