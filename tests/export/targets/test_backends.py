"""sentence-transformers' own backends open our ONNX and OpenVINO folders, by the loader that it ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from tests.model.conftest import TEXTS
from transformers import BertConfig
from transformers.modeling_outputs import BaseModelOutput

from multigrain.export.backend_form import backend_form
from multigrain.export.embedder import Embedder
from multigrain.export.job import ExportJob
from multigrain.export.parity import PARITY_TEXTS
from multigrain.export.targets.onnx import export as export_onnx
from multigrain.export.targets.openvino import export as export_openvino
from multigrain.model.encoder import build_encoder

EXPORTS = {"onnx": export_onnx, "openvino": export_openvino}


class RunByOnnxRuntime:
    """What sentence-transformers asks of optimum, which cannot be installed beside transformers 5.

    The slow tests below run optimum itself.
    """

    config: Any = None
    device = torch.device("cpu")

    def __init__(self, path: Path, config: Any) -> None:
        self.session = onnxruntime.InferenceSession(str(path))
        self.config = config

    @classmethod
    def from_pretrained(cls, folder: str, config: Any, export: bool, **options: Any) -> RunByOnnxRuntime:
        assert not export, "sentence-transformers did not find the graph"
        return cls(Path(folder, options.get("file_name", "model.onnx")), config)

    def _save_pretrained(self, folder: str) -> None:
        raise NotImplementedError

    def forward(self, input_ids: Any, attention_mask: Any, **others: Any) -> BaseModelOutput:
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        (states,) = self.session.run(["last_hidden_state"], inputs)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(states))

    def __call__(self, **inputs: Any) -> BaseModelOutput:
        return self.forward(inputs["input_ids"], inputs["attention_mask"])


@pytest.fixture
def optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("optimum.onnxruntime")
    module.ONNX_WEIGHTS_NAME = "model.onnx"
    for task in ("CausalLM", "FeatureExtraction", "MaskedLM", "SequenceClassification"):
        setattr(module, f"ORTModelFor{task}", RunByOnnxRuntime)
    monkeypatch.setitem(sys.modules, "optimum", ModuleType("optimum"))
    monkeypatch.setitem(sys.modules, "optimum.onnxruntime", module)


@pytest.mark.usefixtures("optimum")
def test_the_loader_finds_all_it_needs(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", max_seq_length=24, device="cpu").eval()
    torch.manual_seed(5)
    model.insert(2, Dense(32, 12, bias=True))
    model.prompts = {"query": "query: the ", "document": ""}
    folder = tmp_path / "out"
    folder.mkdir()
    done = export_onnx(ExportJob(model=model, source="tiny", destination=folder, int8=True), folder)
    assert done.lines[-1] == 'SentenceTransformer(folder, backend="onnx") opens it too'
    opened = SentenceTransformer(str(folder), backend="onnx", device="cpu")
    assert opened.max_seq_length == 24
    for texts in (TEXTS, TEXTS[:1], list(PARITY_TEXTS)):
        np.testing.assert_allclose(opened.encode_query(texts), model.encode_query(texts), atol=1e-5)
        np.testing.assert_allclose(opened.encode_document(texts), model.encode_document(texts), atol=1e-5)
    int8 = {"file_name": "model_int8.onnx"}
    rounded = SentenceTransformer(str(folder), backend="onnx", model_kwargs=int8, device="cpu").encode_query(TEXTS)
    # The graph has the Dense layer in int8 too, which sentence-transformers computes itself.
    np.testing.assert_allclose(rounded, Embedder(folder, "model_int8.onnx").encode_query(TEXTS), atol=2e-2)
    assert np.abs(rounded - model.encode_query(TEXTS)).max() > 1e-4
    # One graph, and no weights beside it but those of the Dense layer.
    weights = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
    assert weights == ["2_Dense/model.safetensors"]


@pytest.mark.parametrize(("pooling", "why"), [("ata", "it has ata pooling"), ("mean", "which this model leaves out")])
def test_what_it_cannot_open_is_said(pooling: str, why: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling=pooling, device="cpu").eval()
    model[1].include_prompt = pooling == "ata"
    form = backend_form(ExportJob(model=model, source="tiny", destination=tmp_path), "openvino")
    assert form.facts == {"sentence_transformers_backend": None}
    assert form.line.startswith('SentenceTransformer(folder, backend="openvino") does not open it: ')
    assert why in form.line
    assert "\n" not in form.line


PYTHONS = {name: os.environ.get(f"MULTIGRAIN_TEST_OPTIMUM_{name.upper()}") for name in EXPORTS}
"""Interpreters of environments of their own, since optimum's packages want other versions of transformers:
`pip install "optimum-onnx[onnxruntime]==0.1.0" "sentence-transformers<6"`, and
`pip install "optimum-intel[openvino]==2.2.0" "sentence-transformers>=6"`."""

READER = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
folder, backend, out = sys.argv[1:4]
options = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}} if backend == "openvino" else {}
model = SentenceTransformer(folder, backend=backend, model_kwargs=options, device="cpu")
texts = json.load(sys.stdin)
for batch in (1, len(texts)):
    for role in ("query", "document"):
        prompt = model.prompts.get(role) or ""
        np.save(f"{out}/{role}-{batch}.npy", model.encode(texts, prompt=prompt, batch_size=batch))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("backend", list(EXPORTS))
def test_optimum_itself_gives_the_same_vectors(
    backend: str, pooling: str, minilm_reference: str, tmp_path: Path
) -> None:
    python = PYTHONS[backend]
    if python is None:
        pytest.skip(f"no environment: $MULTIGRAIN_TEST_OPTIMUM_{backend.upper()} names no interpreter")
    model = build_encoder(minilm_reference, pooling=pooling, device="cpu").eval()
    model.prompts = {"query": "query: ", "document": ""}
    (tmp_path / "out").mkdir()
    EXPORTS[backend](ExportJob(model=model, source="it", destination=tmp_path / "out"), tmp_path / "out")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    texts = list(PARITY_TEXTS)
    ran = subprocess.run(
        [python, "-c", READER, str(tmp_path / "out"), backend, str(tmp_path)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    assert "xporting the model" not in ran.stderr  # it took our graph
    for batch in (1, len(texts)):
        for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
            found = np.load(tmp_path / f"{role}-{batch}.npy")
            assert np.abs(found - encode(texts, batch_size=batch)).max() <= 1e-4
