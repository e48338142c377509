"""The graph gives the model's vectors: every architecture, both padding sides, any batch and length."""

from __future__ import annotations

import json
import shutil
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
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from tests.model.conftest import TEXTS
from transformers import BertConfig

from multigrain.errors import ExportError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.embedder import Embedder
from multigrain.export.graph import received_plainly
from multigrain.export.job import ExportJob
from multigrain.export.parity import PARITY_TEXTS, check_parity
from multigrain.export.targets.onnx import export as export_onnx
from multigrain.model.attention.received import Reduction, Scores, attention_received
from multigrain.model.encoder import build_encoder
from multigrain.model.pooling import AtaOptions

ROPE = {"head_dim": 8, "num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertConfig", {}, "right"),
    "modernbert": ("ModernBertConfig", {"local_attention": 8}, "right"),
    "mpnet": ("MPNetConfig", {"pad_token_id": 1, "max_position_embeddings": 70}, "right"),
    "qwen3": ("Qwen3Config", ROPE, "left"),
    "qwen3-bidirectional": ("Qwen3Config", {**ROPE, "is_causal": False}, "right"),
}


def job(model: SentenceTransformer, folder: Path, **options: Any) -> ExportJob:
    return ExportJob(model=model.eval(), source="tiny", destination=folder, **options)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "qwen3" else pytest.mark.slow) for name in MODELS]
)
def test_architectures(name: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    config, shape, side = MODELS[name]
    folder = tiny_folder(getattr(transformers, config), padding_side=side, **shape)
    model = build_encoder(str(folder), pooling="ata", device="cpu", ata=AtaOptions(reduce="mean"))
    (tmp_path / "out").mkdir()
    done = export_onnx(job(model, tmp_path / "out"), tmp_path / "out")
    assert done.facts["max_difference"] < 1e-5
    embedder = Embedder(tmp_path / "out")
    for texts in (TEXTS, TEXTS[:1], [*TEXTS, *TEXTS]):
        exported = embedder.encode(texts)
        np.testing.assert_allclose(exported, model.encode(texts), atol=1e-5)
    # Padding on either side, whatever the tokenizer does: the graph is the model.
    for where in (slice(0, 4), slice(5, 9)):
        ids, mask = np.full((2, 9), 1, dtype=np.int64), np.zeros((2, 9), dtype=np.int64)
        ids[0], mask[0] = range(6, 15), 1
        ids[1, where], mask[1, where] = [7, 9, 11, 13], 1
        (exported,) = embedder.session.run(None, {"input_ids": ids, "attention_mask": mask})
        with torch.inference_mode():
            features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            expected = model(features)["sentence_embedding"].numpy()
        np.testing.assert_allclose(exported, expected, atol=1e-5)


def test_minilm_with_ata_and_int8(minilm_ata: SentenceTransformer, small_set: EvaluationSet, tmp_path: Path) -> None:
    done = export_onnx(job(minilm_ata, tmp_path, int8=True, sets=(small_set,)), tmp_path)
    assert done.facts["max_difference"] < 1e-5
    (cost,) = done.facts["int8"]
    assert cost["queries"] == 12
    assert cost["low"] <= cost["loss"] <= cost["high"]
    assert cost["before"] - cost["after"] == pytest.approx(cost["loss"])
    whole, quantised = (tmp_path / name for name in ("model.onnx", "model_int8.onnx"))
    assert quantised.stat().st_size < 0.3 * whole.stat().st_size
    exact, rounded = Embedder(tmp_path).encode(TEXTS), Embedder(tmp_path, "model_int8.onnx").encode(TEXTS)
    assert (exact * rounded).sum(1).min() > 0.98
    assert not np.allclose(exact, rounded, atol=1e-4)
    # Plain onnxruntime and tokenizers, in a process where the rest of the stack cannot be imported.
    np.save(tmp_path / "expected.npy", minilm_ata.encode_query(list(PARITY_TEXTS)))
    program = """
import json, sys
for name in ("torch", "transformers", "sentence_transformers", "multigrain"):
    sys.modules[name] = None
import numpy as np
sys.path.insert(0, sys.argv[1])
from embedder import Embedder
found = Embedder(sys.argv[1]).encode_query(json.loads(sys.argv[2]))
print(float(abs(found - np.load(sys.argv[1] + "/expected.npy")).max()))
"""
    command = [sys.executable, "-c", program, str(tmp_path), json.dumps(PARITY_TEXTS)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 1e-5
    settings_file = json.loads((tmp_path / "export.json").read_text())
    assert (settings_file["pooling"], settings_file["max_tokens"], settings_file["normalised"]) == ("ata", 128, True)
    # sentence-transformers' backends have no such pooling, and the folder does not look as if they had.
    assert 'backend="onnx") does not open it: it computes the pooling itself' in done.lines[-1]
    assert not (tmp_path / "modules.json").exists()
    assert [output.name for output in Embedder(tmp_path).session.get_outputs()] == ["sentence_embedding"]


@pytest.mark.parametrize("pooling", ["ata", pytest.param("mean", marks=pytest.mark.slow)])
def test_prompts_and_what_they_leave_out(pooling: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(
        str(tiny_folder(BertConfig)), pooling=pooling, device="cpu", ata=AtaOptions(include_prompt=False)
    )
    model[1].include_prompt = False
    model.prompts = {"query": "query: the fox ", "document": ""}
    export_onnx(job(model, tmp_path), tmp_path)  # parity holds with the prompt, or this would raise
    embedder = Embedder(tmp_path)
    assert [entry.name for entry in embedder.session.get_inputs()] == ["input_ids", "attention_mask", "prompt_length"]
    queries = embedder.encode_query(TEXTS)
    np.testing.assert_allclose(queries, model.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(embedder.encode_document(TEXTS), model.encode_document(TEXTS), atol=1e-5)
    model[1].include_prompt = True
    assert not np.allclose(queries, model.encode_query(TEXTS), atol=1e-3)  # the premise: leaving out matters


def test_a_graph_that_is_not_the_model_is_refused(
    tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")

    def damaged(graph: Any, path: Path) -> None:
        weights = onnx.load(tmp_path / "right.onnx")
        first = max(weights.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        first.raw_data = bytes(len(first.raw_data))
        onnx.save(weights, path)

    from multigrain.export.targets import onnx as module

    write_graph = module.write_graph
    write_graph(module.EmbeddingGraph(model.eval()), tmp_path / "right.onnx")
    monkeypatch.setattr(module, "write_graph", damaged)
    with pytest.raises(ExportError, match=r"tiny as ONNX does not give the model's vectors: .* apart, 1e-04 allowed"):
        export_onnx(job(model, tmp_path), tmp_path)
    # And the check itself passes what is right.
    shutil.copy(tmp_path / "right.onnx", tmp_path / "model.onnx")
    assert check_parity(model, Embedder(tmp_path), what="it") < 1e-5


@pytest.mark.slow
def test_what_cannot_be_exported_is_said_in_one_line(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    plain = SentenceTransformer(str(tiny_folder(BertConfig)), device="cpu")

    class Unruly(torch.nn.Module):
        include_prompt = True

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            return features if features["sentence_embedding"].sum() > 0 else {**features, "sentence_embedding": None}

    plain.append(Unruly())
    with pytest.raises(ExportError, match="BertModel: cannot be traced for ONNX") as caught:
        export_onnx(job(plain, tmp_path), tmp_path)
    assert "\n" not in str(caught.value)
    bare = SentenceTransformer(modules=[plain[0]], device="cpu")
    with pytest.raises(ExportError, match="no pooling over tokens"):
        export_onnx(job(bare, tmp_path), tmp_path)


def scores_of(heads: int, groups: int, length: int, mask: str, seed: int) -> tuple[Scores, torch.Tensor]:
    torch.manual_seed(seed)
    query, key = torch.randn(2, heads * groups, length, 4), torch.randn(2, heads, length, 4)
    valid = torch.ones(2, length, dtype=torch.bool)
    valid[0, : length // 3] = False
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    shown = {"none": None, "causal": None, "bool": causal & valid[:, None, None], "added": None}[mask]
    if mask == "added":
        shown = torch.where(causal & valid[:, None, None], 0.0, torch.finfo(torch.float32).min)
    if mask in ("none", "causal"):
        valid[:] = True
    bias = torch.randn(2, heads * groups, length, length) if mask == "added" else None
    return Scores(query, key, 0.5, mask=shown, causal=mask == "causal", bias=bias), valid


@settings(max_examples=60, deadline=None)
@given(
    reduce=st.sampled_from(["sum", "log", "mean", "diagonal"]),
    heads=st.sampled_from(["mean", "max"]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9)),
    mask=st.sampled_from(["none", "causal", "bool", "added"]),
    seed=st.integers(0, 1000),
)
def test_plain_operations_equal_the_blockwise_ones(
    reduce: Any, heads: Any, shape: tuple[int, int, int], mask: str, seed: int
) -> None:
    scores, valid = scores_of(*shape, mask, seed)
    reduction = Reduction(reduce=reduce, heads=heads)
    received = received_plainly(scores, valid, reduction)
    torch.testing.assert_close(received, attention_received(scores, valid, reduction), atol=1e-5, rtol=1e-5)


def test_vectors_are_cut_as_the_model_cuts_them(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    whole = build_encoder(str(tiny_folder(BertConfig)), device="cpu")
    whole.truncate_dim = 8
    whole.save_pretrained(str(tmp_path / "model"))
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    export_onnx(job(model, tmp_path / "onnx"), tmp_path)

    reader = Embedder(tmp_path)
    assert reader.settings["dimension"] == 8
    assert not reader.settings["normalised"]
    np.testing.assert_allclose(reader.encode_document(TEXTS), model.encode_document(TEXTS), atol=1e-5)
    # sentence-transformers' backend pools by itself, and then cuts.
    assert json.loads((tmp_path / "config_sentence_transformers.json").read_text())["truncate_dim"] == 8
