"""Exporters by name, and those of other packages through a real entry point."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import multigrain.export
from multigrain.display.install import install_line
from multigrain.errors import ConfigError, ExportError, MissingExtraError
from multigrain.export.job import ExportJob
from multigrain.export.registry import EXPORTERS, check_destination, export_model

PLUGIN = """
from multigrain.display.install import install_line
from multigrain.errors import ExportError
from multigrain.export.job import Exported, ExportJob

def export_text(job: ExportJob, folder):
    (folder / "half.txt").write_text("half")
    if job.source == "bad":
        raise ExportError("it is bad")
    (folder / "model.txt").write_text(job.source)
    return Exported(facts={"letters": len(job.source)}, lines=("as text",))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a distribution that offers exporters, as pip would lay it out."""

    def install(**entries: str) -> None:
        site = tmp_path / "site"
        info = site / "multigrain_text-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: multigrain-text\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[multigrain.exporters]", *lines, ""]))
        (site / "multigrain_text.py").write_text(PLUGIN)
        monkeypatch.syspath_prepend(site)

    yield install
    sys.modules.pop("multigrain_text", None)


def job(destination: Path, source: str = "abc") -> ExportJob:
    return ExportJob(model=SimpleNamespace(), source=source, destination=destination)  # type: ignore[arg-type]


def test_every_built_in_can_be_loaded() -> None:
    assert set(EXPORTERS.built_in) == {
        "fastembed",
        "folder",
        "gguf",
        "onnx",
        "openvino",
        "static",
        "transformers-js",
        "tei",
        "vllm",
    }
    for name in EXPORTERS.built_in:
        assert callable(EXPORTERS.get(name))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_form_whose_extra_is_missing_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("multigrain.export.")]:
        monkeypatch.delitem(sys.modules, module)
        monkeypatch.delattr(multigrain.export, module.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it fails as if it were not there

    with pytest.raises(MissingExtraError, match=f"--to {name} needs .*{re.escape(install_line(name))}"):
        EXPORTERS.get(name)


def test_a_plug_in_is_found_and_used(plugin: Any, tmp_path: Path) -> None:
    plugin(text="multigrain_text:export_text")
    assert "text" in EXPORTERS.names()
    done = export_model(job(tmp_path / "out"), "text")
    assert done.facts == {"letters": 3}
    assert (tmp_path / "out" / "model.txt").read_text() == "abc"


def test_a_failed_export_leaves_nothing_and_what_was_there_stays(plugin: Any, tmp_path: Path) -> None:
    plugin(text="multigrain_text:export_text")
    export_model(job(tmp_path / "out"), "text")
    with pytest.raises(ExportError, match="bad: it is bad"):
        export_model(job(tmp_path / "out", "bad"), "text")
    assert (tmp_path / "out" / "model.txt").read_text() == "abc"
    with pytest.raises(ExportError):
        export_model(job(tmp_path / "new", "bad"), "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "site"]


@pytest.mark.parametrize(
    ("entries", "form", "message"),
    [
        ({"text": "multigrain_text:export_text"}, "txt", "--to 'txt': no exporter has this name; did you mean 'text'"),
        (
            {"text": "multigrain_text:missing"},
            "text",
            "--to 'text': entry point .* of package multigrain-text.* cannot be loaded",
        ),
        ({"text": "multigrain_nothing:x"}, "text", r"cannot be loaded \(ModuleNotFoundError"),
        ({"text": "multigrain_text:PLUGIN_NAME"}, "text", "cannot be loaded"),
        ({"onnx": "multigrain_text:export_text"}, "onnx", "package multigrain-text offers one of that name"),
    ],
)
def test_mistakes_are_one_line(entries: dict[str, str], form: str, message: str, plugin: Any) -> None:
    plugin(**entries)
    with pytest.raises(ConfigError, match=message) as caught:
        EXPORTERS.get(form)
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    check_destination(tmp_path / "new", overwrite=False)
    check_destination(tmp_path, overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"holds files already.*--overwrite"):
        check_destination(tmp_path, overwrite=False)
    check_destination(tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match="is a file"):
        check_destination(tmp_path / "file", overwrite=True)
