"""How the command line treats people: a welcome, hints that fit where they are, and a clear word after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app, welcome
from multigrain.cli.questions import _likely_folder
from multigrain.config.file import load_config
from multigrain.errors import ConfigError


def test_the_name_alone_says_what_to_type_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [])

    assert done.exit_code == 0
    assert "multigrain init" in done.stdout
    assert len(done.stdout.splitlines()) < 15  # a welcome, not the manual


def test_the_welcome_knows_where_one_is(tmp_path: Path) -> None:
    assert "config.yaml is here" not in welcome(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert "it has not been run yet: multigrain run config.yaml" in welcome(tmp_path)
    (tmp_path / "runs" / "config").mkdir(parents=True)
    assert "the same command continues" in welcome(tmp_path)
    (tmp_path / "runs" / "config" / "report.html").touch()
    assert "open runs/config/report.html" in welcome(tmp_path)


def test_every_command_has_a_heading_in_the_help() -> None:
    assert [each.name for each in app.registered_commands if not each.rich_help_panel] == []
    assert [each.name for each in app.registered_groups if not each.rich_help_panel] == []


def test_a_folder_of_documents_given_as_config_is_told_apart_from_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a folder, and no run: .*`multigrain init --documents .*`"):
        load_config(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 7")
    assert load_config(tmp_path).seed == 7


def test_broken_yaml_is_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("seed: 1\ndocuments:\n  path: a\n bad: 2\n")
    with pytest.raises(ConfigError, match="line 4 is indented by 1 space, the line before by 2: "):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("seed: 1\n# a note\ndocuments:\n  path: a\n    text_field: b\n")
    with pytest.raises(ConfigError, match="line 5 is indented by 4 spaces, the line before by 2: "):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("seed: 1\ndocuments:\n\tpath: a\n")
    with pytest.raises(ConfigError, match="line 3 is indented with a tab"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("seed: 1\ndocuments: {path: a, text_field: 'b}\n")
    with pytest.raises(ConfigError, match="column") as caught:
        load_config(tmp_path / "c.yaml")
    assert "indented" not in str(caught.value)
    assert "unicode string" not in str(caught.value)


def test_status_alone_shows_every_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    none = CliRunner().invoke(app, ["status"])
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("seed: 7")
    (tmp_path / "runs" / "notes").mkdir()
    both = CliRunner().invoke(app, ["status"])
    (tmp_path / "b.yaml").write_text("seed: 7")
    by_config = CliRunner().invoke(app, ["status", "b.yaml"])

    assert "no run in runs/ here" in str(none.exception)
    assert re.findall(r"^runs/\w+$", both.stdout, re.M) == ["runs/a", "runs/b"]
    assert "`multigrain run runs/b` continues" in both.stdout
    assert by_config.stdout.startswith("runs/b\n")


@pytest.mark.parametrize(
    ("folders", "likely"),
    [
        ([], "documents"),
        (["book", "runs", ".git"], "book"),
        (["x", "docs"], "docs"),
        (["x", "y"], "documents"),
    ],
)
def test_the_folder_that_init_offers(tmp_path: Path, folders: list[str], likely: str) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    assert _likely_folder(tmp_path) == likely


def test_ctrl_c_is_one_line_and_its_own_exit_code(tmp_path: Path, corpus_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        (tmp_path / "c.yaml").write_text(
            f"documents: {{path: {corpus_file}}}\nllm: {{provider: openai, base_url: '{address}', model: m}}\n"
            "training: {base_model: auto}\n"
        )
        with subprocess.Popen(
            [sys.executable, "-m", "multigrain", "synthesize", "c.yaml"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("Writing"):
                    break
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                said = process.stderr.read()

    assert process.returncode == 130
    assert said.strip().splitlines() == [
        "stopping: every answer that has arrived is kept",
        "interrupted; nothing that was finished is lost, the same command continues from there",
    ]
