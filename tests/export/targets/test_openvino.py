"""OpenVINO, where it is installed: the same vectors; where it is not, the pip line."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig

from multigrain.display.install import install_line
from multigrain.errors import MissingExtraError
from multigrain.export.job import ExportJob
from multigrain.export.targets import openvino as module
from multigrain.model.encoder import build_encoder


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_the_same_vectors(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").eval()
    (tmp_path / "out").mkdir()
    done = module.export(ExportJob(model=model, source="tiny", destination=tmp_path / "out"), tmp_path / "out")
    assert done.facts["max_difference"] < 1e-5
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["export.json", "openvino_model.bin", "openvino_model.xml", "tokenizer.json"]


def test_the_pip_line(tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").eval()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("openvino"))):
        module.export(ExportJob(model=model, source="tiny", destination=tmp_path), tmp_path)
