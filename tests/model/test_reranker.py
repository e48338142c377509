"""Rerankers made of decoders: a head that reads the last token whatever fills the batch, or yes against no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MambaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

from multigrain.config import LoraConfig, TrainingConfig
from multigrain.encoders.cross_encoder import load_cross_encoder, pair_logits
from multigrain.errors import ModelError
from multigrain.model.adapters import add_adapters
from multigrain.model.reranker import build_reranker, save_reranker

from .conftest import SHAPE

PAIRS = [
    ("the fox", "the quick brown fox jumps over a lazy dog . and then some more words about embedding models"),
    ("dog !", "lazy dog"),
    ("some more words", "the"),
]
HEADS: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'query' %}the {{ message.content }} {% endif %}"
    "{% if message.role == 'document' %}fox {{ message.content }} {% endif %}{% endfor %}?"
)


def _built(folder: Path, **settings: Any) -> CrossEncoder:
    config = TrainingConfig.model_validate(
        {"kind": "reranker", "base_model": str(folder), "max_seq_length": 64, **settings}
    )
    return build_reranker(config.resolve("tuned"), seed=3, device="cpu").eval()


def _logits(model: CrossEncoder, pairs: list[tuple[str, str]]) -> Any:
    return pair_logits(model, pairs, batch_tokens=10_000)


def _alone(model: CrossEncoder) -> Any:
    return np.concatenate([_logits(model, [pair]) for pair in PAIRS])


def _as_published(folder: Path, *, pads: bool) -> None:
    """Give a tokenizer an end token, and leave it none to fill batches with."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "[SEP]"
    if not pads:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize(
    ("config_class", "pads", "noted"),
    [(Qwen2Config, True, None), (Qwen3Config, False, None), (LlamaConfig, True, 7)],
    ids=["no padding token noted", "no padding token at all", "another one noted"],
)
def test_a_decoder_scores_pairs_in_a_batch_as_alone(
    tiny_folder: Callable[..., Path],
    tmp_path: Path,
    config_class: type[PreTrainedConfig],
    pads: bool,
    noted: int | None,
    padding_side: str,
) -> None:
    folder = tiny_folder(config_class, padding_side=padding_side, pad_token_id=noted, **HEADS)
    _as_published(folder, pads=pads)
    model = _built(folder)
    backbone: Any = model.transformers_model
    tokenizer: Any = model.tokenizer

    alone = _alone(model)
    assert np.ptp(alone) > 1e-3
    for side in ("right", "left"):
        tokenizer.padding_side = side
        np.testing.assert_allclose(_logits(model, PAIRS), alone, atol=1e-5)
    tokenizer.padding_side = "right"
    with torch.no_grad():  # by hand: the head over the last token's state
        features = tokenizer(*PAIRS[0], return_tensors="pt", return_token_type_ids=False)
        last = backbone.model(**features).last_hidden_state[0, -1]
        if tokenizer.pad_token_id == tokenizer.eos_token_id:  # which ends the text here
            last = backbone.model(**features).last_hidden_state[0, -2]
        assert float(backbone.score.weight[0] @ last) == pytest.approx(float(alone[0]), abs=1e-5)
    assert 3 in features["input_ids"][0, 1:-1].tolist(), "the end token stands between query and passage"

    save_reranker(model, tmp_path / "saved")
    loaded = load_cross_encoder(str(tmp_path / "saved"), setting="reranker")
    np.testing.assert_allclose(_logits(loaded, PAIRS), alone, atol=1e-5)
    assert loaded.config.architectures == [f"{config_class.__name__.removesuffix('Config')}ForSequenceClassification"]
    again = _built(tmp_path / "saved")
    np.testing.assert_allclose(_logits(again, PAIRS), alone, atol=1e-5)


def test_a_tokenizer_that_runs_pairs_together_is_given_something_between(
    tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*letters, "<|endoftext|>"])}
    folder = tiny_folder(Qwen2Config, vocab_size=len(vocabulary), pad_token_id=None, **HEADS)
    Qwen2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    before = AutoTokenizer.from_pretrained(folder)
    query, passage = (before(text)["input_ids"] for text in ("ab", "cd"))
    assert before("ab", "cd")["input_ids"] == [*query, *passage]

    save_reranker(_built(folder), tmp_path / "saved")

    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert isinstance(saved, Qwen2Tokenizer)
    assert saved("ab", "cd")["input_ids"] == [*query, vocabulary["<|endoftext|>"], *passage]
    assert saved("ab")["input_ids"] == query


def _language_model(folder: Path, template: str | None, tiny_folder: Callable[..., Path]) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder(Qwen3Config, **HEADS))
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.eos_token, tokenizer.chat_template = "[SEP]", template
    torch.manual_seed(4)
    shape = {**SHAPE, "vocab_size": len(tokenizer), "tie_word_embeddings": True, **HEADS}
    model = AutoModelForCausalLM.from_config(Qwen3Config(**shape))
    for weight in model.parameters():
        weight.data.mul_(4.0 if weight.ndim > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_language_model_that_answers_pairs_keeps_its_form(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = _language_model(tmp_path / "base", TEMPLATE, tiny_folder)
    model = _built(folder)
    assert isinstance(model[1], LogitScore)
    alone = _alone(model)
    assert np.ptp(alone) > 1e-3
    np.testing.assert_allclose(_logits(model, PAIRS), alone, atol=1e-5)
    np.testing.assert_allclose(_logits(CrossEncoder(str(folder), device="cpu"), PAIRS), alone, atol=1e-5)

    save_reranker(model, tmp_path / "saved")
    np.testing.assert_allclose(_logits(_built(tmp_path / "saved"), PAIRS), alone, atol=1e-5)
    add_adapters(model, LoraConfig(r=2, alpha=4, targets="all-linear"))
    learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert learning
    assert all("lora_" in name and "lm_head" not in name for name in learning), "the vocabulary stays"


def test_any_other_language_model_is_given_a_head(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    speaks = "{% for message in messages %}{{ message.content }}{% endfor %}"
    model = _built(_language_model(tmp_path / "base", speaks, tiny_folder))
    assert type(model.transformers_model).__name__ == "Qwen3ForSequenceClassification"
    np.testing.assert_allclose(_logits(model, PAIRS), _alone(model), atol=1e-5)
    save_reranker(model, tmp_path / "saved")
    loaded = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(_logits(loaded, PAIRS), _logits(model, PAIRS), atol=1e-5)


def test_a_transformer_that_has_no_head_is_one_line(tmp_path: Path) -> None:
    MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="transformers has no head that scores for mamba; take another base"):
        _built(tmp_path)


def test_attention_is_computed_as_asked(tiny_folder: Callable[..., Path]) -> None:
    model = _built(tiny_folder(LlamaConfig), attn_implementation="eager")
    assert model.transformers_model is not None
    assert model.transformers_model.config._attn_implementation == "eager"
