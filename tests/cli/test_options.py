"""A run may be named by its directory or by its config, whichever command is told of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from multigrain.cli import card, export, journal, status
from multigrain.cli.options import run_of
from multigrain.errors import MultigrainError
from multigrain.llm.session.journal import Journal
from multigrain.storage.rundir import RunDirectory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of mine.yaml that has a journal."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("documents: {path: documents}\n")
    held = RunDirectory(Path("runs/mine"))
    held.finish("documents", "made", {}, 0.0)
    held.journal_path.parent.mkdir(parents=True)
    Journal(held.journal_path).close()
    return held.path


def test_a_directory_is_itself_and_a_config_its_run(run: Path) -> None:
    assert run_of(Path("mine.yaml")) == run_of(run) == run
    assert run_of(Path("elsewhere/other.yml")) == Path("runs/other")
    Path("folder.yaml").mkdir()
    assert run_of(Path("folder.yaml")) == Path("folder.yaml")


@pytest.mark.parametrize("command", [journal.journal, status.status])
def test_what_is_shown_is_the_same(command: Callable[..., None], run: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    shown = [
        CliRunner().invoke(app, [name, "--json"], catch_exceptions=False).stdout for name in ("mine.yaml", str(run))
    ]

    assert shown[0] == shown[1]
    assert str(run) in shown[0]


def test_a_journal_itself_may_be_named_too(run: Path) -> None:
    app = typer.Typer()
    app.command()(journal.journal)
    path = str(RunDirectory(run).journal_path)

    assert path in CliRunner().invoke(app, [path], catch_exceptions=False).stdout


def test_a_card_of_a_config_is_the_card_of_its_run(run: Path) -> None:
    app = typer.Typer()
    app.command()(card.card)
    with pytest.raises(MultigrainError, match=str(run)):
        CliRunner().invoke(app, ["mine.yaml"], catch_exceptions=False)


def test_a_config_without_a_run_is_no_model(run: Path) -> None:
    app = typer.Typer()
    app.command()(export.export)
    with pytest.raises(MultigrainError, match=r"runs/other: no run here; `multigrain run other\.yaml` makes one"):
        CliRunner().invoke(app, ["other.yaml", "--to", "onnx"], catch_exceptions=False)
