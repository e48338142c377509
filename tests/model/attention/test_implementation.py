"""What computes attention can be chosen; what cannot be had is refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig

from multigrain.config import TrainingConfig
from multigrain.config.file import parse_config
from multigrain.encoders.encoder import encode
from multigrain.errors import ConfigError, MissingExtraError, ModelError
from multigrain.model.attention.implementation import check_implementation
from multigrain.model.encoder import build_candidate, build_encoder, load
from multigrain.stages import run_stages

FLASH = "flash_attention_2"
TEXTS = ["w1 w2 w3", "w4 w5"]


def test_it_reaches_every_way_to_a_model_and_changes_no_vector(tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(BertConfig))
    expected = encode(build_encoder(folder, device="cpu"), TEXTS)
    settings = TrainingConfig(base_model=folder, attn_implementation="eager", max_seq_length=32, precision="float32")
    for model in (
        build_encoder(folder, device="cpu", attn_implementation="eager"),
        load(folder, device="cpu", attn_implementation="eager"),
        build_candidate(settings, device="cpu"),
    ):
        assert model.config._attn_implementation == "eager"
        np.testing.assert_allclose(encode(model, TEXTS), expected, atol=1e-5)


def test_attention_that_is_read_takes_sdpa_and_refuses_eager(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder, saved = str(tiny_folder(BertConfig)), str(tmp_path / "ata")
    model = build_encoder(folder, pooling="ata", device="cpu", attn_implementation="sdpa")
    model.save_pretrained(saved)

    again = load(saved, device="cpu", attn_implementation="sdpa")
    np.testing.assert_allclose(encode(again, TEXTS), encode(model, TEXTS), atol=1e-6)
    with pytest.raises(ModelError, match="reads attention"):
        load(saved, device="cpu", attn_implementation="eager")
    with pytest.raises(ModelError, match="reads attention"):
        build_encoder(folder, pooling="ata", device="cpu", attn_implementation="eager")


def test_static_embeddings_have_no_attention(tiny_folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="needs a transformer"):
        load(f"static:{tiny_folder(BertConfig)}", device="cpu", attn_implementation="sdpa")


def test_flash_attention_needs_its_device_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="cpu is none: use sdpa"):
        load("no/such-model", device="cpu", attn_implementation=FLASH)
    monkeypatch.setattr("multigrain.model.precision.supports_native_bf16", lambda device: False)
    with pytest.raises(ModelError, match="there is none here"):
        check_implementation(FLASH)
    monkeypatch.setattr("multigrain.model.precision.supports_native_bf16", lambda device: True)
    monkeypatch.setattr("multigrain.model.attention.implementation.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install flash-attn"):
        check_implementation(FLASH)
    monkeypatch.setattr("multigrain.model.attention.implementation.find_spec", lambda name: object())
    check_implementation(FLASH)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_that_cannot_have_it_does_not_begin(corpus_file: Path, tmp_path: Path) -> None:
    config = parse_config({"documents": {"path": str(corpus_file)}, "training": {"attn_implementation": FLASH}})
    with pytest.raises(ModelError, match="needs a CUDA GPU"):
        run_stages(config, tmp_path / "run", ["documents", "training"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"attn_implementation": FLASH, "precision": "float32"}, "use precision: auto or bf16"),
        ({"attn_implementation": "eager", "pooling": "values"}, "pooling: values reads attention"),
        ({"attn_implementation": "eager", "candidates": {"a": {}, "b": {"pooling": "ata"}}}, "candidate 'b': pooling"),
        ({"attn_implementation": "fast"}, "attn_implementation"),
    ],
)
def test_what_does_not_go_together_is_told_when_the_config_is_read(training: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({"documents": {"path": "documents"}, "training": training})
