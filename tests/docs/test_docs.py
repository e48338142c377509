"""The documentation: it builds strictly, its reference is current, and every config in it is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from multigrain.ablation.matrix import load_matrix
from multigrain.config.file import parse_config
from multigrain.config.template import chosen_settings, full_template
from multigrain.errors import ConfigError, MultigrainError
from multigrain.sources.tasks import read_tasks

from .blocks import GENERATED, ROOT, Block, blocks

# Names a strategy of the plug-in beside it; test_contributing.py installs that and runs the config.
PLUG_IN_CONFIG = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split('```yaml title="config.yaml"\n')[1].split("```")[0]
)


def _read(body: str, folder: Path) -> None:
    """Read a block as the product would: as the file that its first line names, else as a config."""
    if body.startswith("# matrix.yaml\n"):
        (folder / "config.yaml").write_text("{}", encoding="utf-8")
        (folder / "matrix.yaml").write_text(body, encoding="utf-8")
        load_matrix(folder / "matrix.yaml")
    elif body.startswith("# tasks.yaml\n"):
        (folder / "tasks.yaml").write_text(body, encoding="utf-8")
        read_tasks(folder / "tasks.yaml")
    else:
        parse_config(yaml.safe_load(body))


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_every_yaml_block_in_the_docs_can_be_used(block: Block, tmp_path: Path) -> None:
    if block.body == PLUG_IN_CONFIG:
        with pytest.raises(ConfigError, match="'symptom'"):  # until its package is installed
            _read(block.body, tmp_path)
    else:
        _read(block.body, tmp_path)


@pytest.mark.parametrize(
    "body", ["trainning: {steps: 3}\n", "# matrix.yaml\nconfig: config.yaml\nvray: {}\n", "# tasks.yaml\nstts: [a]\n"]
)
def test_a_block_with_a_misspelt_key_is_refused(body: str, tmp_path: Path) -> None:
    with pytest.raises(MultigrainError):
        _read(body, tmp_path)


def test_the_command_reference_is_current() -> None:
    written = subprocess.run(
        [sys.executable, "-m", "typer", "multigrain.cli.main", "utils", "docs", "--name", "multigrain"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = GENERATED.read_text(encoding="utf-8")
    assert page.strip() == written.strip(), "run `make reference` and commit what it writes"


def test_the_config_reference_is_current() -> None:
    shown = next(block.body for block in blocks("yaml") if block.page == "docs/reference/config.md")
    template = full_template(chosen_settings(documents="./documents", provider="local"))
    assert shown == template, "run `make reference` and commit what it writes"


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
