"""GGUF files, read by the real llama.cpp: every architecture's vectors, each type's loss, and what is refused."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from tests.export.tiny import byte_pairs, sentence_pieces, tiny_model
from tokenizers import normalizers
from transformers import BertConfig, MPNetConfig

from multigrain.display.install import install_line
from multigrain.errors import ExportError, MissingExtraError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.cost import Cost
from multigrain.export.job import DistilSettings, Exported, ExportJob
from multigrain.export.llama_cpp import file as file_module
from multigrain.export.llama_cpp.check import SCRIPTS
from multigrain.export.llama_cpp.file import write_gguf
from multigrain.export.llama_cpp.gelu import FOUR_FOR_ONE, ONE_FOR_ONE, TableGelu
from multigrain.export.llama_cpp.runtime import LlamaCppEmbedder
from multigrain.export.parity import PARITY_TEXTS
from multigrain.export.registry import export_model
from multigrain.export.targets import gguf as module
from multigrain.model.encoder import build_encoder, load
from multigrain.model.replacing import pooling_name

GROUPED = {"head_dim": 16, "num_key_value_heads": 2}
WINDOWS = {**GROUPED, "query_pre_attn_scalar": 16, "num_hidden_layers": 7, "sliding_window": 16}
# Lengths at which every rule of these positions matters to texts of 128 tokens.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
MODELS: dict[str, tuple[str, Callable[[], Any], str, dict[str, Any]]] = {
    "modernbert": (
        "ModernBertConfig",
        lambda: byte_pairs(begins=True),
        "mean",
        {"local_attention": 16, "num_hidden_layers": 4, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "modernbert-cls": (
        "ModernBertConfig",
        lambda: byte_pairs(begins=True),
        "cls",
        {"local_attention": 16, "num_hidden_layers": 4, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "qwen3": ("Qwen3Config", lambda: byte_pairs("qwen2"), "lasttoken", GROUPED),
    "qwen3-both-ways": ("Qwen3Config", lambda: byte_pairs("qwen2"), "mean", {**GROUPED, "is_causal": False}),
    "qwen2": ("Qwen2Config", lambda: byte_pairs("qwen2"), "lasttoken", {"num_key_value_heads": 2}),
    "llama": ("LlamaConfig", lambda: byte_pairs("llama-bpe", begins=True), "lasttoken", GROUPED),
    "llama-both-ways": ("LlamaConfig", lambda: byte_pairs("smollm"), "mean", {**GROUPED, "is_causal": False}),
    "llama-by-factors": (
        "LlamaConfig",
        lambda: byte_pairs("llama-bpe", begins=True),
        "lasttoken",
        {**GROUPED, "rope_parameters": LLAMA3},
    ),
    "qwen3-yarn": ("Qwen3Config", lambda: byte_pairs("qwen2"), "lasttoken", {**GROUPED, "rope_parameters": YARN}),
    "llama-yarn": (
        "LlamaConfig",
        lambda: byte_pairs("llama-bpe", begins=True),
        "mean",
        {**GROUPED, "rope_parameters": {**YARN, "attention_factor": 1.3, "beta_fast": 24.0}},
    ),
    "mistral": ("MistralConfig", sentence_pieces, "mean", {**GROUPED, "sliding_window": None}),
    "gemma3": ("Gemma3TextConfig", lambda: sentence_pieces(prefix=False), "mean", WINDOWS),
    "gemma3-both-ways": (
        "Gemma3TextConfig",
        lambda: sentence_pieces(prefix=False),
        "mean",
        {**WINDOWS, "use_bidirectional_attention": True},
    ),
    "embedding-gemma": (
        "Gemma3TextConfig",
        lambda: sentence_pieces(prefix=False),
        "mean",
        {**WINDOWS, "use_bidirectional_attention": True},
    ),
}
FAST = ("qwen3-both-ways",)
# llama.cpp's CPU code reads GELU from a table of float16.
TABLE_GELU = 1e-3


def make(name: str, folder: Path) -> SentenceTransformer:
    config, tokenizer, pooling, settings = MODELS[name]
    model = tiny_model(folder, getattr(transformers, config), tokenizer(), pooling, **settings)
    if name == "embedding-gemma":
        add_dense(model)
    return model


def add_dense(model: SentenceTransformer, *, bias: bool = False) -> None:
    """Two Dense layers between pooling and normalising, as EmbeddingGemma has them."""
    width = model[0].model.config.hidden_size
    for place, sizes in ((2, (width, 4 * width)), (3, (4 * width, width))):
        model.insert(place, Dense(*sizes, bias=bias, activation_function=torch.nn.Identity()))


def export(model: SentenceTransformer, folder: Path, **options: Any) -> Exported:
    return export_model(ExportJob(model=model.eval(), source="tiny", destination=folder / "out", **options), "gguf")


def keys_of(folder: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    (path,) = folder.glob("*.gguf")
    wanted = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type", "tokenizer.ggml.scores")
    return {name: field.contents() for name, field in GGUFReader(path).fields.items() if name not in wanted}


def many_texts(leave_out: Sequence[str] = ()) -> list[str]:
    """Some 200 texts of several scripts, of one letter to several times what a model reads."""
    draw = random.Random(7)
    scripts = [text for text in SCRIPTS.values() if text not in leave_out]
    words = [word for text in (*PARITY_TEXTS, *scripts) for word in text.split() if len(word) < 60]
    return [*PARITY_TEXTS, *(" ".join(draw.choices(words, k=1 + number * number // 90)) for number in range(200))]


def difference(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    return float((np.abs(expected - found).max(1) / np.linalg.norm(expected, axis=1)).max())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in MODELS]
)
def test_architectures(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path)
    done = export(model, tmp_path)
    table_gelu = "gemma" in name
    assert done.facts["max_difference"] < (TABLE_GELU if table_gelu else 1e-4)
    # Decomposed accents: tokenizers of Qwen compose them, llama.cpp does not.
    texts = many_texts(leave_out=[SCRIPTS[script] for script in done.facts["read_otherwise"]])
    embedder = LlamaCppEmbedder(tmp_path / "out" / done.facts["file"], model, threads=1)
    expected = model.encode(texts, batch_size=16)
    for batch in (1, 16):
        found = embedder.encode(texts, batch_size=batch)
        assert difference(expected, found) < (TABLE_GELU if table_gelu else 1e-4)
    keys = keys_of(tmp_path / "out")
    architecture = keys["general.architecture"]
    assert keys[f"{architecture}.pooling_type"] == {"mean": 1, "cls": 2, "last": 3}[pooling_name(model)]
    both_ways = name.startswith("modernbert") or "both-ways" in name or name == "embedding-gemma"
    assert keys[f"{architecture}.attention.causal"] is not both_ways
    assert keys["tokenizer.ggml.add_eos_token"] is (model.tokenizer("a")["input_ids"][-1] == 3)


@pytest.mark.slow
def test_minilm_on_many_texts(minilm_reference: str, tmp_path: Path) -> None:
    model = load(minilm_reference, device="cpu")
    done = export(model, tmp_path)
    assert done.facts["neurons_written"] == 4
    assert set(done.facts["read_otherwise"]) == {"Bengali", "Hindi", "Korean", "words of more than 100 letters"}
    embedder = LlamaCppEmbedder(tmp_path / "out" / done.facts["file"], model, threads=1)
    # In these scripts llama.cpp drops vowel signs.
    texts = many_texts(leave_out=[SCRIPTS[name] for name in done.facts["read_otherwise"]])
    assert len(texts) >= 200
    assert max(len(model.tokenizer(text)["input_ids"]) for text in texts) > 256
    for batch in (1, 16):
        assert difference(model.encode(texts), embedder.encode(texts, batch_size=batch)) < 1e-4
    # The premise: llama.cpp's own GELU is further away.
    plain = tmp_path / "plain.gguf"
    write_gguf(model, plain, "f32", name="plain", terms=ONE_FOR_ONE)
    assert difference(model.encode(texts), LlamaCppEmbedder(plain, model, threads=1).encode(texts)) > 2e-4


def test_neurons_whose_approximations_add_up_to_gelu() -> None:
    states = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    exact = torch.nn.functional.gelu(states)
    approximate = [torch.nn.functional.gelu(term.inner * states, approximate="tanh") for term in FOUR_FOR_ONE]
    found = torch.stack([term.outer * one for term, one in zip(FOUR_FOR_ONE, approximate, strict=True)]).sum(0)
    assert float((found - exact).abs().max()) < 1.3e-5
    assert float((torch.nn.functional.gelu(states, approximate="tanh") - exact).abs().max()) > 4e-4


def test_several_neurons_lose_less_to_the_table_of_float16() -> None:
    states = torch.randn(100_000, generator=torch.Generator().manual_seed(1)) * 1.5 - 0.8
    exact = torch.nn.functional.gelu(states)
    one, four = (
        float((TableGelu(terms)(states) - exact).square().mean().sqrt()) for terms in (ONE_FOR_ONE, FOUR_FOR_ONE)
    )
    assert four < 0.5 * one


def test_minilm_types_losses_and_what_is_written(
    minilm_reference: str, small_set: EvaluationSet, tmp_path: Path
) -> None:
    model = load(minilm_reference, device="cpu")
    model.prompts = {"query": "query: ", "document": ""}
    done = export(model, tmp_path, dtype="q8_0", sets=(small_set,))
    assert done.facts["bytes"] < 26e6
    assert 1e-4 < done.facts["max_difference"] < 5e-2
    (cost,) = done.facts["costs"]
    assert cost["queries"] == 12
    assert cost["low"] <= cost["loss"] <= cost["high"]
    keys = keys_of(tmp_path / "out")
    assert keys["general.architecture"] == "bert"
    assert keys["multigrain.query_prompt"] == "query: "
    assert keys["bert.context_length"] == 256
    modelfile = (tmp_path / "out" / "Modelfile").read_text()
    assert f"FROM ./{done.facts['file']}\n" in modelfile
    assert "PARAMETER num_ctx 256\n" in modelfile
    assert "'query: ' before every query" in modelfile
    words = shlex.split(done.facts["serve"])
    assert words[words.index("--model") + 1] == str(tmp_path / "out" / done.facts["file"])
    assert "--kv-unified" in words
    assert json.loads((tmp_path / "out" / "export.json").read_text())["query_prompt"] == "query: "
    assert any("put 'query: ' before every query" in line for line in done.lines)


@pytest.mark.parametrize("dtype", ["f16", pytest.param("bf16", marks=pytest.mark.slow), "q4_0"])
def test_types_of_a_decoder(dtype: str, tmp_path: Path) -> None:
    done = export(make("qwen3", tmp_path), tmp_path, dtype=dtype)
    limits = {"f16": (1e-6, 1e-2), "bf16": (1e-4, 5e-2), "q4_0": (1e-2, 0.5)}
    low, high = limits[dtype]
    assert low < done.facts["max_difference"] < high


def test_ata_is_distilled_or_refused(minilm_ata: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"llama\.cpp computes mean, cls, .* has ata .*--distil"):
        export(minilm_ata, tmp_path)
    texts = tuple(f"the {one} of {two}" for one in ("fox", "dog", "bee") for two in ("rivers", "bread", "rust"))
    settings = DistilSettings(documents=texts, queries=("what is a fox?",), steps=2, batch_size=4)
    done = export(minilm_ata, tmp_path, distil=settings)
    assert done.facts["distilled_from"] == "ata"
    assert done.facts["max_difference"] < TABLE_GELU


def test_what_is_tokenised_otherwise_is_refused_with_the_text(minilm_reference: str, tmp_path: Path) -> None:
    model = load(minilm_reference, device="cpu")
    # llama.cpp's WordPiece always lower-cases.
    model.tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    with pytest.raises(ExportError, match=r"llama.cpp reads 'how do I rot.*' otherwise: \['i'.* the model's"):
        export(model, tmp_path)
    assert not (tmp_path / "out").exists()


def test_texts_of_the_own_sets_are_compared_too(minilm_reference: str, tmp_path: Path) -> None:
    hindi = EvaluationSet(
        name="hindi",
        role="test",
        provenance="made for a test",
        corpus={"d0": SCRIPTS["Hindi"], "d1": "one more"},
        queries={"q0": "हिन्दी", "q1": "more"},
        qrels={"q0": {"d0": 1}, "q1": {"d1": 1}},
    )
    with pytest.raises(ExportError, match="with 2 of 4 texts of your sets"):
        export(load(minilm_reference, device="cpu"), tmp_path, sets=(hindi,))


def test_other_vectors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("qwen3", tmp_path)
    right = file_module._name
    swapped = {"blk.0.ffn_gate.weight": "blk.0.ffn_up.weight", "blk.0.ffn_up.weight": "blk.0.ffn_gate.weight"}
    monkeypatch.setattr(
        file_module, "_name", lambda names, own: swapped.get(str(right(names, own)), right(names, own))
    )
    with pytest.raises(ExportError, match=r"as GGUF \(f32\) does not give the model's vectors"):
        export(model, tmp_path)


def test_what_cannot_be_written_is_said_in_one_line(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    def words(config: Any, **shape: Any) -> SentenceTransformer:
        return build_encoder(str(tiny_folder(config, **shape)), pooling="mean", device="cpu")

    left = make("qwen3", tmp_path / "a")
    left.tokenizer.truncation_side = "left"
    window = make("qwen3", tmp_path / "b")
    window[0].model.config.layer_types = ["sliding_attention"] * 3
    stretched = make("qwen3", tmp_path / "c")
    stretched[0].model.config.rope_parameters = LLAMA3
    dense = make("gemma3-both-ways", tmp_path / "d")
    add_dense(dense, bias=True)
    elsewhere = make("qwen3-both-ways", tmp_path / "e")
    add_dense(elsewhere)
    cases: list[tuple[SentenceTransformer, dict[str, Any], str]] = [
        (stretched, {}, "llama.cpp has no positions of type 'llama3' here"),
        (dense, {}, r"computes Dense layers .* of no bias and no activation"),
        (elsewhere, {}, r"computes Dense layers behind the pooling in EmbeddingGemma \(Gemma 3, both ways\) alone"),
        (words(MPNetConfig, pad_token_id=1), {}, "GGUF: MPNetModel is not among the architectures written"),
        (words(BertConfig), {}, "GGUF: llama.cpp has no tokenizer like this WordLevel one"),
        (left, {}, "cuts texts on the left"),
        (window, {}, "no sliding window in this architecture"),
        (left, {"dtype": "float16"}, "--dtype float16: is none of a GGUF file; give f32, f16"),
    ]
    for model, options, message in cases:
        with pytest.raises(ExportError, match=message) as caught:
            export(model, tmp_path, **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_folder_without_its_tokenizer_is_refused(minilm_reference: str, tmp_path: Path) -> None:
    load(minilm_reference, device="cpu").save_pretrained(str(tmp_path / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"special tokens only: the folder's tokenizer\.json is missing"):
        export(load(str(tmp_path / "model"), device="cpu"), tmp_path)


def test_a_type_that_loses_too_much_is_refused() -> None:
    cost = Cost("handbook", 300, 0.9, 0.885, 0.015, 0.01, 0.02)
    with pytest.raises(ExportError, match="--dtype q8_0 loses too much, 1 points allowed: nDCG@10 on handbook"):
        module._check_costs((cost,), "q8_0")
    module._check_costs((cost,), "q4_0")


def test_the_pip_line(minilm_ata: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("gguf"))):
        export(minilm_ata, tmp_path)
