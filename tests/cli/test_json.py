"""What `--json` prints is what the reference says: for every command that has the option."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator
from tests.json_shapes import check_shape
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.cli.shapes import SHAPES, schema_of

from .test_main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def _has_json(words: tuple[str, ...]) -> bool:
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return any("--json" in parameter.opts for parameter in command.params)


def test_every_command_with_json_has_a_shape_and_no_other() -> None:
    printing = {" ".join(words) for words in COMMANDS if _has_json(words)}
    shaped = {name.removesuffix(" --dry-run").removesuffix(" FILE").removesuffix(" RUN") for name in SHAPES}

    assert printing == shaped
    for name in SHAPES:
        words = tuple(name.split())
        if words[-1] == "--dry-run":
            command: Any = typer.main.get_command(app)
            for word in words[:-1]:
                command = command.commands[word]
            assert any("--dry-run" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_a_schema_that_says_no(name: str) -> None:
    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)

    assert list(Draft202012Validator(schema).iter_errors({})) != []
    assert list(Draft202012Validator(schema).iter_errors([])) != []


def test_an_unknown_key_is_told() -> None:
    with pytest.raises(AssertionError, match="surprise"):
        check_shape("plugins", {"parts": [], "surprise": 1})


def test_what_is_printed_in_a_test_is_held_against_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    from multigrain.tools import plugins

    listed = CliRunner().invoke(app, ["plugins", "--json"])
    assert listed.exit_code == 0
    assert json.loads(listed.stdout)["parts"]

    monkeypatch.setattr(plugins.NamedPart, "__dataclass_fields__", {})
    told = CliRunner().invoke(app, ["plugins", "--json"])
    assert isinstance(told.exception, AssertionError)


def test_doctor_prints_its_shape() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])

    assert json.loads(done.stdout)["findings"]


@pytest.mark.parametrize(("page", "options"), [("json.md", ()), ("json-schema.json", ("--schema",))])
def test_the_reference_is_made_from_the_shapes(page: str, options: tuple[str, ...]) -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "reference" / "make_json.py", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout

    assert (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8") == made, "run `make reference`"
    if options:
        assert json.loads(made).keys() == SHAPES.keys()
