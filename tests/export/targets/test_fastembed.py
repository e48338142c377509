"""fastembed's custom models: the same vectors, prompts included, and Qdrant and LanceDB over them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.model.conftest import TEXTS
from transformers import BertConfig

from multigrain.display.install import install_line
from multigrain.errors import ExportError, MissingExtraError
from multigrain.export.job import ExportJob
from multigrain.export.registry import export_model
from multigrain.export.targets import fastembed as module
from multigrain.model.encoder import build_encoder
from multigrain.model.pooling import AtaOptions

ROOT = Path(__file__).resolve().parents[3]
there = pytest.mark.skipif(importlib.util.find_spec("fastembed") is None, reason="fastembed is not installed")


def example() -> Any:
    spec = importlib.util.spec_from_file_location("fastembed_stores", ROOT / "examples" / "fastembed_stores.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@there
@pytest.mark.slow
def test_vectors_prompts_lengths_and_stores(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", max_seq_length=16, device="cpu").eval()
    model.prompts = {"query": "query: the fox ", "document": "dog "}
    out = tmp_path / "out"
    done = export_model(ExportJob(model=model, source="tiny", destination=out), "fastembed")
    assert done.facts["max_difference"] < 1e-5
    assert json.loads((out / "tokenizer_config.json").read_text())["model_max_length"] == 16
    stores = example()
    reader = stores.open_model(out)
    texts = [*TEXTS, "some more words " * 30]
    np.testing.assert_allclose(list(reader.query_embed(texts)), model.encode_query(texts), atol=1e-5)
    np.testing.assert_allclose(list(reader.passage_embed(texts)), model.encode_document(texts), atol=1e-5)
    assert not np.allclose(list(reader.embed(texts)), model.encode_query(texts), atol=1e-3)  # it adds none by itself
    documents = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    cosines = model.encode_query(["the quick fox"]) @ model.encode_document(texts).T
    best = np.argsort(-cosines[0])
    for name, search in stores.STORES.items():
        found = search(reader, documents, tmp_path / name, "the quick fox", limit=2)
        assert [row["id"] for _, row in found] == [documents[number]["id"] for number in best[:2]]
        np.testing.assert_allclose([score for score, _ in found], cosines[0][best[:2]], atol=1e-4)
    # In a process that has neither torch nor multigrain.
    program = """
import json, sys
for name in ("torch", "transformers", "sentence_transformers", "multigrain"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
from fastembed_model import load
print(json.dumps([row.tolist() for row in load(sys.argv[1]).query_embed("dog !")]))
"""
    ran = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_allclose(json.loads(ran.stdout.splitlines()[-1]), model.encode_query(["dog !"]), atol=1e-5)


@there
def test_what_fastembed_cannot_do_is_refused(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu").eval()
    model.max_seq_length = None
    model.tokenizer.model_max_length = int(1e30)
    with pytest.raises(ExportError, match="insists on a limit of tokens"):
        export_model(ExportJob(model=model, source="tiny", destination=tmp_path / "out"), "fastembed")
    leaving = build_encoder(
        str(tiny_folder(BertConfig)), pooling="ata", device="cpu", ata=AtaOptions(include_prompt=False)
    ).eval()
    with pytest.raises(ExportError, match="cannot say how long the prompt is"):
        export_model(ExportJob(model=leaving, source="tiny", destination=tmp_path / "out"), "fastembed")
    assert not (tmp_path / "out").exists()


def test_the_pip_line(tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").eval()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("fastembed"))):
        export_model(ExportJob(model=model, source="tiny", destination=tmp_path / "out"), "fastembed")
