from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multigrain.rundir import RunDirectory

from .example_run import ExampleRun, build_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A complete run; shared, so tests that change files copy it first."""
    return build_run(tmp_path_factory.mktemp("report") / "docstrings-13", ExampleRun(rows=80, queries=200))


@pytest.fixture
def own_run(example: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of the complete run that a test may damage."""
    return RunDirectory(shutil.copytree(example.path, tmp_path / example.path.name))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()
