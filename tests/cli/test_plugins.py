"""`multigrain plugins`: what can be named, where it comes from, and what cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.installed import install
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.tools.plugins import registries


def listed(exit_code: int = 0) -> list[dict[str, str | None]]:
    done = CliRunner().invoke(app, ["plugins", "--json"])
    assert done.exit_code == exit_code, done.output
    parts: list[dict[str, str | None]] = json.loads(done.stdout)["parts"]
    return parts


def test_every_part_of_every_table_is_listed_and_can_be_loaded() -> None:
    parts = listed()

    known = {(registry.kind, name) for registry in registries() for name in registry.built_in}
    assert {(part["kind"], part["name"]) for part in parts} == known
    assert {kind for kind, _ in known} >= {"strategy", "check", "loss"}
    assert len({registry.group for registry in registries()}) == len(registries())
    assert {part["package"] for part in parts} == {"multigrain"}
    assert not [part for part in parts if part["problem"] and "pip install" not in part["problem"]]


def test_parts_of_other_packages_are_named_with_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {
        "multigrain.losses": {"spread": "their_parts:SPREAD", "gone": "their_parts:GONE"},
        "multigrain.strategies": {"shout": "their_parts:Shout", "mgh": "their_parts:Shout"},
    }
    module = "from multigrain import LossPlugin\n\nSPREAD = LossPlugin(lambda model, settings: None)\nShout = list\n"
    monkeypatch.syspath_prepend(str(install(tmp_path, "their-parts", groups, {"their_parts": module})))

    parts = {part["name"]: part for part in listed(exit_code=1)}

    assert (parts["spread"]["package"], parts["spread"]["problem"]) == ("their-parts", None)
    assert (parts["shout"]["package"], parts["shout"]["problem"]) == ("their-parts", None)
    assert "cannot be loaded (AttributeError" in str(parts["gone"]["problem"])
    assert parts["mgh"]["package"] == "multigrain, their-parts"
    assert "which is built in" in str(parts["mgh"]["problem"])
    shown = CliRunner().invoke(app, ["plugins"])
    assert "spread" in shown.stdout
    assert "entry point 'their_parts:GONE' of package their-parts" in shown.stdout
