from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multigrain.report import write_report
from multigrain.storage.rundir import RunDirectory

from .example_run import ExampleRun, build_run
from .hostile import attack

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium, closed after each file: while playwright is open, its event loop runs in this thread."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def address(example: RunDirectory) -> str:
    """The complete run's page."""
    return write_report(example).as_uri()


@pytest.fixture(scope="session")
def hostile_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run whose every text is an attack."""
    path = tmp_path_factory.mktemp("hostile") / "run <img src=x onerror=window.hacked=9>"
    return write_report(build_run(path, ExampleRun(rows=30, queries=60, text=attack))).as_uri()


@pytest.fixture
def visit(browser):
    """Opens an address; fails the test on any script error, console message or request for anything else."""
    contexts, complaints = [], []

    def open_page(address, *, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: complaints.append(request.url) if request.url not in loaded else None)
        loaded = {address}
        page.goto(address)
        loaded.add(page.evaluate("document.querySelector('link[rel=icon]').href"))
        page.complaints = complaints
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [each for each in complaints if not each.startswith("data:")] == []
