"""The graph of a reranker gives its scores: in its reader, in OpenVINO, and in sentence-transformers' own backends."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from tests.export.targets.test_backends import PYTHONS, RunByOnnxRuntime, optimum
from tests.model.conftest import tiny_folder
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from multigrain.errors import ExportError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.job import RerankerJob
from multigrain.export.registry import EXPORTERS, export_model
from multigrain.export.reranker import onnx as onnx_module
from multigrain.export.reranker.openvino import open_folder
from multigrain.export.reranker.parity import PARITY_PAIRS, ModelLogits, check_pair_parity
from multigrain.export.reranker.reader import Reranker

from .conftest import reranker_of

__all__ = ["optimum", "tiny_folder"]

PAIRS = [
    ("river flows", "the river that flows w1 w2 w3"),
    ("engine", "garden grows"),
    ("w1 " * 30, "river " * 40),
    ("market opens", "market opens w7 w8"),
    ("", "engine"),
]


def test_onnx_and_int8_give_the_models_scores(
    load_small: Callable[[], CrossEncoder], small_set: EvaluationSet, tmp_path: Path
) -> None:
    model = load_small()
    done = export_model(RerankerJob(model, "small", tmp_path / "out", sets=(small_set,), int8=True), "onnx")

    assert done.facts["max_difference"] < 1e-5
    exported = Reranker(tmp_path / "out")
    for batch_size in (1, 2, 32):
        expected = model.predict(PAIRS, batch_size=batch_size)
        np.testing.assert_allclose(exported.scores(PAIRS, batch_size=batch_size), expected, atol=1e-6)
    expected = ModelLogits(model).logits(PAIRS)
    np.testing.assert_allclose(exported.logits(PAIRS), expected, atol=1e-5)
    assert np.ptp(expected) > 0.1, "the premise: the scores differ"
    query, documents = "river flows", [document for _, document in PAIRS]
    ranked = [(int(row["corpus_id"]), float(row["score"])) for row in model.rank(query, documents)]
    assert [place for place, _ in exported.rank(query, documents)] == [place for place, _ in ranked]
    assert exported.rank(query, documents, top_k=2)[1][1] == pytest.approx(ranked[1][1], abs=1e-6)

    (cost,) = done.facts["int8"]
    assert (cost["set"], cost["queries"]) == ("subjects", 12)
    assert cost["before"] - cost["after"] == pytest.approx(cost["loss"])
    rounded = Reranker(tmp_path / "out", "model_int8.onnx").logits(PAIRS)
    assert 1e-6 < np.abs(rounded - expected).max() < 0.2 * np.ptp(expected)
    noted = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (noted["kind"], noted["max_tokens"], noted["activation"]) == ("reranker", 24, "sigmoid")
    assert noted["inputs"] == ["input_ids", "attention_mask"], "its tokenizer numbers no texts of a pair"
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_the_reader_needs_neither_torch_nor_transformers(
    load_small: Callable[[], CrossEncoder], tmp_path: Path
) -> None:
    model = load_small()
    export_model(RerankerJob(model, "small", tmp_path / "out"), "onnx")
    program = """
import json, sys
for name in ("torch", "transformers", "sentence_transformers", "multigrain"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
from reranker import Reranker
print(json.dumps(Reranker(sys.argv[1]).scores(json.loads(sys.argv[2])).tolist()))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "out"), json.dumps(PAIRS)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == pytest.approx(model.predict(PAIRS).tolist(), abs=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_gives_the_models_scores(load_small: Callable[[], CrossEncoder], tmp_path: Path) -> None:
    model = load_small()
    done = export_model(RerankerJob(model, "small", tmp_path / "out"), "openvino")
    assert done.facts["max_difference"] < 1e-5
    np.testing.assert_allclose(open_folder(tmp_path / "out").scores(PAIRS), model.predict(PAIRS), atol=1e-6)
    assert not list((tmp_path / "out").glob("*.onnx"))
    assert not (tmp_path / "out" / "reranker.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "shape"),
    [("XLMRobertaConfig", {"pad_token_id": 0}), ("ModernBertConfig", {"local_attention": 8}), ("MPNetConfig", {})],
)
def test_architectures(config: str, shape: dict[str, Any], tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    torch.manual_seed(4)
    base = tiny_folder(getattr(transformers, config), **shape)
    model = CrossEncoder(str(base), num_labels=1, max_length=32, device="cpu").eval()
    done = export_model(RerankerJob(model, "tiny", tmp_path / "out"), "onnx")
    assert done.facts["max_difference"] < 1e-5


@pytest.mark.slow
def test_minilm_reads_every_script_and_more_than_fits(
    minilm_reference: str, small_set: EvaluationSet, tmp_path: Path
) -> None:
    model = reranker_of(minilm_reference, 128)
    done = export_model(RerankerJob(model, "minilm", tmp_path / "out", sets=(small_set,), int8=True), "onnx")
    assert done.facts["max_difference"] < 1e-4
    assert any(len(model.tokenizer.encode(*pair)) > 128 for pair in PARITY_PAIRS)
    assert any(not query.isascii() and not document.isascii() for query, document in PARITY_PAIRS)
    noted = json.loads((tmp_path / "out" / "export.json").read_text())
    assert noted["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    sizes = done.facts["bytes"]
    assert sizes["model_int8.onnx"] < 0.3 * sizes["model.onnx"]


class _ScoredByOnnxRuntime(RunByOnnxRuntime):
    def forward(self, input_ids: Any, attention_mask: Any, **others: Any) -> Any:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **others}
        wanted = [entry.name for entry in self.session.get_inputs()]
        (logits,) = self.session.run(["logits"], {name: given[name].numpy() for name in wanted})
        return SequenceClassifierOutput(logits=torch.from_numpy(logits))

    def __call__(self, **inputs: Any) -> Any:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return self.forward(**{name: inputs[name] for name in names if name in inputs})


@pytest.mark.usefixtures("optimum")
def test_sentence_transformers_loader_finds_all_it_needs(
    load_small: Callable[[], CrossEncoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["optimum.onnxruntime"], "ORTModelForSequenceClassification", _ScoredByOnnxRuntime)
    model = load_small()
    done = export_model(RerankerJob(model, "small", tmp_path / "out", int8=True), "onnx")
    assert done.lines[-1] == 'CrossEncoder(folder, backend="onnx") opens it too'
    opened = CrossEncoder(str(tmp_path / "out"), backend="onnx", device="cpu")
    assert opened.max_seq_length == 24
    np.testing.assert_allclose(opened.predict(PAIRS), model.predict(PAIRS), atol=1e-6)
    int8 = CrossEncoder(
        str(tmp_path / "out"), backend="onnx", device="cpu", model_kwargs={"file_name": "model_int8.onnx"}
    )
    rounded = Reranker(tmp_path / "out", "model_int8.onnx").scores(PAIRS)
    np.testing.assert_allclose(int8.predict(PAIRS, batch_size=1), rounded, atol=2e-2)


READER = """
import json, sys
import numpy as np
from sentence_transformers import CrossEncoder
folder, backend, out = sys.argv[1:4]
options = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}} if backend == "openvino" else {}
model = CrossEncoder(folder, backend=backend, model_kwargs=options, device="cpu")
pairs = [tuple(pair) for pair in json.load(sys.stdin)]
for batch in (1, len(pairs)):
    np.save(f"{out}/{batch}.npy", model.predict(pairs, batch_size=batch))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_optimum_itself_gives_the_same_scores(backend: str, minilm_reference: str, tmp_path: Path) -> None:
    python = PYTHONS[backend]
    if python is None:
        pytest.skip(f"no environment: $MULTIGRAIN_TEST_OPTIMUM_{backend.upper()} names no interpreter")
    model = reranker_of(minilm_reference, 128)
    export_model(RerankerJob(model, "it", tmp_path / "out"), backend)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [python, "-c", READER, str(tmp_path / "out"), backend, str(tmp_path)],
        input=json.dumps(PARITY_PAIRS),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    assert "xporting the model" not in ran.stderr  # it took our graph
    for batch in (1, len(PARITY_PAIRS)):
        found, expected = np.load(tmp_path / f"{batch}.npy"), model.predict(list(PARITY_PAIRS), batch_size=batch)
        print(f"{backend}, batches of {batch}: {np.abs(found - expected).max():.1e}")
        assert np.abs(found - expected).max() <= 1e-4


def test_a_graph_that_is_not_the_model_is_refused(
    load_small: Callable[[], CrossEncoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph = onnx_module.write_graph

    def damaged(graph: Any, path: Path) -> None:
        write_graph(graph, path)
        weights = onnx.load(path)
        first = max(weights.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        first.raw_data = bytes(len(first.raw_data))
        onnx.save(weights, path)

    monkeypatch.setattr(onnx_module, "write_graph", damaged)
    with pytest.raises(ExportError, match=r"small as ONNX does not give the model's scores: log-odds .* apart, 1e-04"):
        export_model(RerankerJob(load_small(), "small", tmp_path / "out"), "onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", sorted({*EXPORTERS.built_in} - {"onnx", "openvino"}))
def test_forms_of_embedders_are_refused_in_one_line(
    form: str, load_small: Callable[[], CrossEncoder], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"--to {form} is for embedders; give --to onnx or openvino") as caught:
        export_model(RerankerJob(load_small(), "small", tmp_path / "out"), form)
    assert "\n" not in str(caught.value)


def test_rerankers_that_are_more_than_a_transformer_are_refused(
    load_small: Callable[[], CrossEncoder], small_bert: Path, tmp_path: Path
) -> None:
    def refused(model: CrossEncoder, words: str) -> None:
        with pytest.raises(ExportError, match=words) as caught:
            export_model(RerankerJob(model, "small", tmp_path / "out"), "onnx")
        assert "\n" not in str(caught.value)

    squashed, prompted, headless, several = load_small(), load_small(), load_small(), load_small()
    squashed.activation_fn = nn.Tanh()
    refused(squashed, "its scores come out of Tanh, and exported are Sigmoid and Identity")
    prompted.prompts, prompted.default_prompt_name = {"web": "Is this relevant? "}, "web"
    refused(prompted, "it puts a prompt before pairs")
    headless.append(nn.Identity())
    refused(headless, "its modules are Transformer → Identity")
    several.config.num_labels = 3  # type: ignore[union-attr]
    refused(several, "it gives 3 scores a pair")


def test_identity_scores_are_log_odds(load_small: Callable[[], CrossEncoder], tmp_path: Path) -> None:
    model = load_small()
    model.activation_fn = nn.Identity()
    export_model(RerankerJob(model, "small", tmp_path / "out"), "onnx")
    exported = Reranker(tmp_path / "out")
    np.testing.assert_array_equal(exported.scores(PAIRS), exported.logits(PAIRS))
    np.testing.assert_allclose(exported.scores(PAIRS), model.predict(PAIRS), atol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"


def test_the_check_itself_passes_what_is_right_and_sees_what_is_not(load_small: Callable[[], CrossEncoder]) -> None:
    model = load_small()
    assert check_pair_parity(model, ModelLogits(model), what="it") == 0.0

    class Shifted(ModelLogits):
        def logits(self, pairs: Any, *, batch_size: int = 32) -> Any:
            found = super().logits(pairs, batch_size=batch_size)
            found[3] += 0.01 if batch_size == 1 else 0
            return found

    with pytest.raises(ExportError, match=r"log-odds 0\.01 apart, 1e-04 allowed .* in batches of 1;"):
        check_pair_parity(model, Shifted(model), what="it")
