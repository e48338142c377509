"""A copy of the source that a test changes as a recipe says, and runs in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from .pages import SOURCE, named_files, recipes

PACKAGES_OF = """
import json

from multigrain.tools.plugins import named_parts


def packages_of(kind):
    # By name, where the parts of a kind come from, as `multigrain plugins` lists them; those that can be used.
    return {part.name: part.package for part in named_parts() if part.kind == kind and part.problem is None}


"""


@dataclass
class Checkout:
    """A copy of `src/multigrain`.

    Attributes:
        folder: holds the package, and whatever its commands write.
        touched: the files of the package that were changed or added.
    """

    folder: Path
    touched: set[str] = field(default_factory=set)

    def write(self, path: str, text: str) -> None:
        """Add a file to the package."""
        self._mark(path)
        (self.folder / "multigrain" / path).write_text(text, encoding="utf-8")

    def insert(self, path: str, before: str, text: str) -> None:
        """Put a text before another one, which stands in a file of the package once."""
        file = self.folder / "multigrain" / path
        old = file.read_text(encoding="utf-8")
        assert old.count(before) == 1, f"{path}: {old.count(before)} times {before!r}"
        self._mark(path)
        file.write_text(old.replace(before, text + before), encoding="utf-8")

    def follows(self, part: str) -> bool:
        """Whether every file of the package that was touched is named by the recipe of a part."""
        named = set(named_files(recipes()[part]))
        patterns = {name.replace("NAME", "*").replace("COMMAND", "*") for name in named}
        return all(any(fnmatch(path, pattern) for pattern in patterns) for path in self.touched)

    def python(self, *arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        """Run Python with the copy first on its path; every call costs seconds."""
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    def multigrain(self, *arguments: str, fails: bool = False) -> str:
        """What a command prints; where it is to fail, its error."""
        done = self.python("-m", "multigrain", *arguments, fails=fails)
        return done.stderr if fails else done.stdout

    def configure(self, corpus: Path, base: Path, **sections: dict[str, Any]) -> None:
        """Write config.yaml of a run that takes seconds, and the given values in its sections."""
        values: dict[str, dict[str, Any]] = {
            "documents": {"path": str(corpus), "validation_share": 0.2, "test_share": 0.3},
            "llm": {"provider": "scripted"},
            "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0},
            "training": {
                "base_model": str(base),
                "steps": 2,
                "batch_size": 4,
                "max_seq_length": 32,
                "precision": "float32",
                "candidates": {"tuned": {"pooling": "keep"}},
            },
            "evaluation": {"queries": "titles", "bootstrap_samples": 200},
        }
        merged = {name: {**values.get(name, {}), **sections.get(name, {})} for name in (values | sections)}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(merged), encoding="utf-8")

    def evaluate(self, code: str) -> Any:
        """The value that a script prints as JSON in its last line; it may use `packages_of`, see there."""
        return json.loads(self.python("-c", PACKAGES_OF + code).stdout.splitlines()[-1])

    def _mark(self, path: str) -> None:
        self.touched.add(path)
        for stale in (self.folder / "multigrain" / path).parent.glob(f"__pycache__/{Path(path).stem}.*"):
            stale.unlink()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    shutil.copytree(SOURCE, folder / "multigrain")
    return Checkout(folder)
