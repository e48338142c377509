"""Tuning queries alone: documents keep the base's vectors, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from multigrain.config import TrainingConfig
from multigrain.config.file import parse_config
from multigrain.encoders.encoder import SentenceTransformerEncoder, encode
from multigrain.encoders.stored import model_of
from multigrain.errors import ConfigError, ModelError
from multigrain.model.encoder import build_candidate, load, save_candidate
from multigrain.model.query_adapter import QueryAdapter
from multigrain.model.query_side import with_query_adapter
from multigrain.training.merging import WeightMerge
from multigrain.training.train import train_candidate

from .graded import examples

TEXTS = ["river flows w1 w2", "engine w3 w9 w30", "valley sleeps"]


def _settings(base: Path | str, **training: Any) -> TrainingConfig:
    values = {
        "base_model": str(base),
        "side": "query",
        "max_seq_length": 32,
        "steps": 4,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "precision": "float32",
        "checkpoint_every": 2,
    }
    config = parse_config({"documents": {"path": "."}, "training": values | training})
    return config.training.resolve("tuned")


def _trained(settings: TrainingConfig, folder: Path, *, stop_after: int | None = None) -> SentenceTransformer:
    def stop(step: int, steps: int, loss: float) -> None:
        if step == stop_after:
            raise InterruptedError

    model = build_candidate(settings, device="cpu")
    train_candidate(model, examples(), settings, name="x", seed=1, checkpoints=folder / "checkpoints", on_step=stop)
    return model


@pytest.mark.parametrize("change", [{}, {"lora": {"r": 4}}, {"dropout": 0.3, "loss": "masked"}])
def test_documents_keep_the_bases_vectors_bit_for_bit(
    change: dict[str, Any], small_bert: Path, tmp_path: Path
) -> None:
    settings = _settings(small_bert, **change)
    save_candidate(_trained(settings, tmp_path), tmp_path / "model", settings)
    base, tuned = (SentenceTransformer(str(path), device="cpu") for path in (small_bert, tmp_path / "model"))

    assert np.array_equal(base.encode_document(TEXTS), tuned.encode_document(TEXTS))
    assert np.array_equal(base.encode(TEXTS), tuned.encode(TEXTS)), "texts without a role are documents'"
    assert np.abs(base.encode_query(TEXTS) - tuned.encode_query(TEXTS)).max() > 1e-2


def test_another_pooling_is_the_queries_alone(small_bert: Path, tmp_path: Path) -> None:
    settings = _settings(small_bert, pooling="ata")
    save_candidate(_trained(settings, tmp_path), tmp_path / "model", settings)
    base, tuned = load(str(small_bert), device="cpu"), load(str(tmp_path / "model"), device="cpu")

    assert np.array_equal(base.encode_document(TEXTS), tuned.encode_document(TEXTS))


@pytest.mark.parametrize("change", [{}, {"lora": {"r": 4}}])
def test_a_killed_training_continues_from_the_weights_that_learn(
    change: dict[str, Any], small_bert: Path, tmp_path: Path
) -> None:
    settings = _settings(small_bert, **change)
    whole = _trained(settings, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        _trained(settings, tmp_path / "killed", stop_after=3)
    kept = tmp_path / "killed" / "checkpoints" / "checkpoint-2"
    assert not list(kept.rglob("model.safetensors")), "the frozen side is in no checkpoint"
    resumed = _trained(settings, tmp_path / "killed")

    expected, found = (encode(model, TEXTS, role="query") for model in (whole, resumed))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fsdp": True}, "fsdp shards models of one transformer"),
        ({"lora": {}, "quantize": "4bit"}, "quantize: 4bit cannot be saved beside it"),
        ({"lora": {}, "adapters": "apart"}, "use adapters: merged"),
        ({"side": "both", "query_adapter": {}}, "set side: query"),
        ({"query_adapter": {}, "lora": {}}, "leave lora out"),
        ({"query_adapter": {}, "pooling": "mean"}, "leave pooling out"),
        ({"query_adapter": {}, "loss": "guided", "loss_options": {"guide": "auto"}}, "use infonce or masked"),
    ],
)
def test_what_one_side_cannot_have_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        _settings("auto", **change)
    assert len(str(refused.value).strip().splitlines()) <= 3


def _adapter(small_bert: Path, kind: Any) -> tuple[SentenceTransformer, QueryAdapter, SentenceTransformer]:
    base = load(str(small_bert), device="cpu")
    adapter = QueryAdapter(32, kind, 4, seed=3)
    return base, adapter, model_of(SentenceTransformerEncoder(base), adapter)


@pytest.mark.parametrize("kind", ["linear", "low-rank", "mlp"])
def test_an_adapter_begins_as_the_identity_and_is_saved_as_it_was_trained(
    kind: str, small_bert: Path, tmp_path: Path
) -> None:
    base, adapter, model = _adapter(small_bert, kind)
    before = encode(base, TEXTS, role="query")
    np.testing.assert_allclose(encode(model, TEXTS, role="query"), before, atol=1e-6)
    merge = WeightMerge(model)
    settings = _settings(small_bert, query_adapter={"kind": kind, "rank": 4})
    train_candidate(model, examples(), settings, name="x", seed=1, checkpoints=tmp_path / "c")
    trained = encode(model, TEXTS, role="query")
    assert np.abs(trained - before).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(trained, axis=1), 1, atol=1e-6)

    with_query_adapter(base, adapter).save_pretrained(str(tmp_path / "model"), create_model_card=False)
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(saved.encode_query(TEXTS), trained, atol=2e-6)
    plain = SentenceTransformer(str(small_bert), device="cpu")
    assert np.array_equal(saved.encode_document(TEXTS), plain.encode_document(TEXTS))
    assert len(list((tmp_path / "model").rglob("0_Transformer/model.safetensors"))) <= 1
    assert len([path for path in (tmp_path / "model").rglob("*.safetensors") if "Transformer" in str(path)]) == 1

    merge.apply(model, 0.0)
    np.testing.assert_allclose(encode(model, TEXTS, role="query"), before, atol=1e-6)


def test_strength_scales_what_an_adapter_adds(small_bert: Path) -> None:
    _, adapter, model = _adapter(small_bert, "low-rank")
    merge = WeightMerge(model)
    with torch.no_grad():
        adapter.lora_B.weight.normal_(generator=torch.Generator().manual_seed(1))
    whole, down = adapter.arrays()["up"], adapter.arrays()["down"]
    merge.apply(model, 0.5)
    np.testing.assert_allclose(adapter.arrays()["up"], whole / 2)
    np.testing.assert_allclose(adapter.arrays()["down"], down)


def test_vectors_of_any_length_are_refused(small_bert: Path) -> None:
    base = load(str(small_bert), device="cpu")
    base = SentenceTransformer(modules=[base[0], base[1]], similarity_fn_name="dot", device="cpu")
    with pytest.raises(ModelError, match="compares by dot, and its vectors have any length"):
        with_query_adapter(base, QueryAdapter(32, "linear"))


def test_a_static_base_is_tuned_on_one_side(small_bert: Path, tmp_path: Path) -> None:
    settings = _settings(f"static:{small_bert}", max_seq_length=None)
    model = _trained(settings, tmp_path)
    assert isinstance(model[0].sub_modules["document"][0], StaticEmbedding)
    base = load(f"static:{small_bert}", device="cpu")
    assert np.array_equal(encode(base, TEXTS, role="document"), encode(model, TEXTS, role="document"))
