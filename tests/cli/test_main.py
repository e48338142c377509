from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from typer.testing import CliRunner

from multigrain import cli
from multigrain.cli.main import app
from multigrain.config.file import load_config
from multigrain.tools.verdict_line import VerdictWord


def _command_lines(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and every command of a group, as it is typed."""
    for name, command in group.commands.items():
        assert not command.hidden
        yield (*names, name)
        if hasattr(command, "commands"):
            yield from _command_lines(command, (*names, name))


COMMANDS = sorted(_command_lines(typer.main.get_command(app)))


def multigrain(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "multigrain", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )


def _write(path: Path, values: object) -> Path:
    path.write_text(yaml.safe_dump(values) if not isinstance(values, str) else values, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    result = CliRunner().invoke(app, [*command, "--help"], terminal_width=100)

    assert result.exit_code == 0
    assert f"Usage: multigrain {' '.join(command)} " in " ".join(result.stdout.split())
    assert "\x1b[" not in result.stdout


def test_every_subcommand_that_exists_is_on_the_command_line() -> None:
    names = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    modules = {name: importlib.import_module(f"multigrain.cli.{name}") for name in names - {"main", "console"}}
    commands = {name for name, module in modules.items() if hasattr(module, name) or hasattr(module, "app")}

    assert commands == {names[0] for names in COMMANDS}


def test_init_writes_a_config_that_loads_and_never_overwrites(tmp_path: Path, corpus_file: Path) -> None:
    first = multigrain("init", "mine.yaml", "--documents", corpus_file.name, cwd=tmp_path)
    config = load_config(tmp_path / "mine.yaml")
    again = multigrain("init", "mine.yaml", cwd=tmp_path)

    assert first.returncode == 0
    assert config.documents.path == tmp_path.resolve() / corpus_file.name
    assert again.returncode == 2
    assert "mine.yaml exists already" in again.stderr


@pytest.mark.parametrize(
    ("config", "code", "fragments"),
    [
        ("seed: [", 2, ["bad.yaml", "not valid YAML"]),
        ("- 1", 2, ["expected a mapping"]),
        ({"trainning": {}}, 2, ["trainning: unknown key", "'training'"]),
        ({"training": {"stps": 3}, "llm": {"temprature": 1}}, 2, ["training.stps", "'steps'", "llm.temprature"]),
        ({"training": {"steps": 0}}, 2, ["training.steps", "expected at least 1 or auto, got 0"]),
        ({"documents": {"path": "nowhere"}}, 3, ["nowhere", "no such file or folder"]),
        ({"documents": {"path": "empty"}}, 3, ["empty", "no .md"]),
    ],
)
def test_a_wrong_config_is_one_line_and_an_exit_code(
    tmp_path: Path, config: object, code: int, fragments: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    _write(tmp_path / "bad.yaml", config)

    done = multigrain("run", "bad.yaml", cwd=tmp_path)

    assert done.returncode == code
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert "Traceback" not in done.stderr
    for fragment in fragments:
        assert fragment in message


def test_a_stage_whose_input_is_missing_names_the_command_that_makes_it(tmp_path: Path, corpus_file: Path) -> None:
    _write(tmp_path / "c.yaml", {"documents": {"path": str(corpus_file)}})

    done = multigrain("train", "c.yaml", cwd=tmp_path)

    assert done.returncode == 7
    assert "`multigrain synthesize`" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = multigrain("run", "none.yaml", "--debug", cwd=tmp_path)

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


def test_usage_errors_exit_with_two(tmp_path: Path) -> None:
    assert multigrain("run", cwd=tmp_path).returncode == 2
    assert multigrain("rnu", cwd=tmp_path).returncode == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_bert: Path) -> Path:
    """A whole run by the command line, with the scripted model."""
    folder = tmp_path_factory.mktemp("cli")
    rows = [
        {
            "id": f"d{n}",
            "title": f"about w{n} and w{n + 1}",
            "text": f"w{n} w{n + 60} river engine w{n + 30} w{n + 90} " * 3,
        }
        for n in range(60)
    ]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    _write(
        folder / "c.yaml",
        {
            "documents": {"path": "rows.jsonl", "validation_share": 0.2, "test_share": 0.3},
            "llm": {"provider": "scripted"},
            "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0},
            "training": {"base_model": str(small_bert), "steps": 4, "batch_size": 4, "max_seq_length": 32},
            "evaluation": {"bootstrap_samples": 200},
        },
    )
    done = multigrain("run", "c.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_json_is_one_object_on_stdout_and_progress_is_plain_lines_on_stderr(finished: Path) -> None:
    summary = json.loads((finished / "stdout").read_text())
    assert summary["verdict"]["verdict"] in get_args(VerdictWord)
    progress = (finished / "stderr").read_text()

    assert summary["documents"]["documents"] == 60
    assert summary["synthesis"]["written"] > 0
    assert summary["results"]["chosen"] in ("base", "tuned")  # words drawn by chance teach nothing
    assert (finished / summary["report"]).is_file()
    assert "\x1b[" not in progress
    assert "documents: 60" in progress


def test_running_again_keeps_every_stage(finished: Path) -> None:
    again = multigrain("run", "c.yaml", cwd=finished)

    assert again.returncode == 0
    assert again.stderr.count("kept") == 5
    assert again.stderr.splitlines()[-1] == "nothing left to do: every stage was complete before"


def test_a_run_directory_stands_for_its_config(finished: Path) -> None:
    again = multigrain("run", "runs/c", cwd=finished)

    assert again.returncode == 0, again.stderr
    assert again.stderr.count("kept") == 5
    assert not (finished / "runs" / "config").exists()


def test_another_config_in_the_same_directory_is_refused_and_harms_nothing(finished: Path) -> None:
    values = yaml.safe_load((finished / "c.yaml").read_text())
    values["training"]["steps"] = 5
    _write(finished / "other.yaml", values)
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*") if path.name != "lock"}

    done = multigrain("train", "other.yaml", "--run", "runs/c", cwd=finished)

    after = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*") if path.name != "lock"}
    assert done.returncode == 6
    assert "training.steps was 4, now 5" in done.stderr
    assert "--redo" in done.stderr
    assert before == after


def test_a_directory_in_use_is_refused(finished: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from multigrain.storage.rundir import RunDirectory\n"
        "with RunDirectory(Path('runs/c')).hold(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder], cwd=finished, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            done = multigrain("run", "c.yaml", cwd=finished)
        finally:
            process.kill()

    assert done.returncode == 6
    assert f"in use by process {process.pid}" in done.stderr
