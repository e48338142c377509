"""The documentation: it builds strictly, its reference is current, and every config in it is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.config.template import config_template
from multigrain.errors import ConfigError

from .blocks import GENERATED, ROOT, Block, blocks

# Names a strategy of the plug-in beside it; test_contributing.py installs that and runs the config.
PLUG_IN_CONFIG = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split('```yaml title="config.yaml"\n')[1].split("```")[0]
)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_every_config_in_the_docs_is_one(block: Block) -> None:
    body = block.body
    values = yaml.safe_load(body)
    if body == PLUG_IN_CONFIG:
        with pytest.raises(ConfigError, match="'symptom': no strategy has this name"):  # until it is installed
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
    shown = next(each.body for each in blocks("yaml") if each.page == "docs/reference/config.md")
    made = config_template(documents="./documents", provider="local", full=True)
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
