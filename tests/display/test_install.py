"""What to type for an extra, by how multigrain was installed."""

from __future__ import annotations

import json
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from multigrain.display.install import install_line, line_for


def _installed(folder: Path, origin: object = None, tool: str = "pip") -> PathDistribution:
    info = folder / "multigrain-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: multigrain\nVersion: 0.1.0\n")
    (info / "INSTALLER").write_text(f"{tool}\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    return PathDistribution(info)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_each_way_to_install_has_its_own_line(tmp_path: Path, tool: str) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    wheel = tmp_path / "multigrain-0.1.0-py3-none-any.whl"
    wheel.touch()
    run = "uv pip" if tool == "uv" else "pip"
    origins = {
        "editable": {"url": clone.as_uri(), "dir_info": {"editable": True}},
        "folder": {"url": clone.as_uri(), "dir_info": {}},
        "wheel": {"url": wheel.as_uri(), "archive_info": {}},
        "gone": {"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}},
        "git": {"url": "https://host.example/multigrain", "vcs_info": {"vcs": "git", "commit_id": "1"}},
        "index": None,
    }
    lines = {name: line_for(_installed(tmp_path / name, origin, tool), "lora") for name, origin in origins.items()}

    assert lines == {
        "editable": f'{run} install --editable "{clone}[lora]"',
        "folder": f'{run} install "{clone}[lora]"',
        "wheel": f'{run} install "{wheel}[lora]"',
        "gone": f'{run} install "multigrain[lora]"',
        "git": f"{run} install 'multigrain[lora] @ git+https://host.example/multigrain'",
        "index": f'{run} install "multigrain[lora]"',
    }


def test_in_the_clone_itself_the_line_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = _installed(tmp_path / "site", {"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.chdir(tmp_path)

    assert line_for(installed, "local") == 'pip install --editable ".[local]"'


def test_this_installation_has_a_line() -> None:
    assert install_line("lora").endswith('[lora]"')
