"""The worked example of CONTRIBUTING.md: taken from the page, installed, tested by its own test, and used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from multigrain.dataset.store import read_rows
from multigrain.records import Level
from multigrain.storage.rundir import RunDirectory

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
FILE = re.compile(r'^```\w+ title="(?P<name>[\w.]+)"\n(?P<body>.*?)^```', re.M | re.S)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's files in a folder, laid out as pip leaves an installed distribution."""
    folder = tmp_path_factory.mktemp("plug-in")
    for match in FILE.finditer(PAGE.read_text(encoding="utf-8")):
        (folder / match["name"]).write_text(match["body"], encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (folder / "documents").mkdir()
    for number in range(30):
        words = " ".join(f"w{number * 7 + place}" for place in range(30))
        (folder / "documents" / f"{number}.txt").write_text(f"When the engine number {number} stops: {words}.")
    return folder


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(cwd), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_its_own_test_passes(installed: Path) -> None:
    done = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=installed)

    assert "2 passed" in done.stdout


def test_a_config_names_it_in_a_mix(installed: Path) -> None:
    done = python("-m", "multigrain", "synthesize", "config.yaml", "--json", cwd=installed)

    rows = read_rows(RunDirectory(installed / "runs" / "config").rows_path)
    symptoms = [row for row in rows if row.strategy == "symptom"]
    assert symptoms
    assert {row.strategy for row in rows} == {"symptom", "mined-bands"}
    assert all(set(row.negatives) == {Level.HARD} for row in symptoms)
    assert json.loads(done.stdout)
