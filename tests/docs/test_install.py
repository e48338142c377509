"""The page that says how to install names what the package declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_extras_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = (ROOT / "docs" / "get-started.md").read_text(encoding="utf-8").split("## Install")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| ([\d,]+) \| ([\d,]+) \|$", section, re.M)

    assert {name for name, _, _ in rows} == set(project["optional-dependencies"]) - {"dev", "docs"}
    assert "Python 3.11, Linux x86-64 | all tests" in section
    assert project["requires-python"] == ">=3.11"
