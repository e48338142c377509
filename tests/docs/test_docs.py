"""The documentation: it builds strictly, its reference is current, and what it tells people to type exists."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from multigrain.cli.main import app
from multigrain.config import Config
from multigrain.config_file import parse_config
from multigrain.config_template import config_template
from multigrain.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "reference" / "cli.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {GENERATED})]
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.M | re.S)

# Names a strategy of the plug-in beside it; test_contributing.py installs that and runs the config.
PLUG_IN_CONFIG = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split('```yaml title="config.yaml"\n')[1].split("```")[0]
)


def blocks(*languages: str) -> list[Any]:
    found = []
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
            if match["language"] in languages:
                found.append(pytest.param(match["body"], id=f"{page.relative_to(ROOT)}:{number}"))
    return found


def commands(body: str) -> Iterator[list[str]]:
    """The multigrain commands of a shell block, without comments, prompts and line continuations."""
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and (words[0] == "$" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
            words = words[1:]
        if words and words[0] == "multigrain":
            yield words[1:]


@pytest.mark.parametrize("body", blocks("bash", "console", "shell", "sh"))
def test_every_command_in_the_docs_exists(body: str) -> None:
    for given in commands(body):
        words, command = given, typer.main.get_command(app)
        while words and not words[0].startswith("-") and hasattr(command, "commands"):
            assert words[0] in command.commands, f"multigrain {' '.join(given)}"
            command, words = command.commands[words[0]], words[1:]
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        known |= {"--help", "-h", "--debug"}
        used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
        assert used <= known, f"{command.name}: {sorted(used - known)}"


@pytest.mark.parametrize("body", blocks("python"))
def test_every_python_block_is_python(body: str) -> None:
    ast.parse(body)


@pytest.mark.parametrize("body", blocks("yaml"))
def test_every_config_in_the_docs_is_one(body: str) -> None:
    values = yaml.safe_load(body)
    if body == PLUG_IN_CONFIG:
        with pytest.raises(ConfigError, match="no strategy is called 'symptom'"):  # until its package is installed
            parse_config(values)
    elif isinstance(values, dict) and values and set(values) <= set(Config.model_fields):
        parse_config(values)


def test_the_command_reference_is_current() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "typer", "multigrain.cli.main", "utils", "docs", "--name", "multigrain"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = GENERATED.read_text(encoding="utf-8")
    assert page.strip() == made.strip(), "run `make reference` and commit what it writes"


def test_the_config_reference_is_current() -> None:
    page = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    shown = next(match["body"] for match in BLOCK.finditer(page) if match["language"] == "yaml")
    made = config_template(documents="./documents", provider="local")
    assert shown == made, "run `make reference` and commit what it writes"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "cli" / "index.html").stat().st_size > 10_000
