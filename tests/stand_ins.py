"""Tiny random models of the architectures that recipes name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    XLMRobertaConfig,
)

__all__ = ["STAND_INS", "make_stand_in"]

WORDS = [f"w{number}" for number in range(200)]
SHAPE: dict[str, Any] = {
    "vocab_size": 207,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 70,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
# What stands in for each recipe's base: architecture, and how the published model pools (None: it does not say).
STAND_INS: dict[str, tuple[Any, dict[str, Any], str | None]] = {
    "cluster": (BertConfig, {}, "mean"),
    "demo": (BertConfig, {}, "mean"),
    "documents": (BertConfig, {}, "cls"),
    "fsdp": (Qwen3Config, GROUPED, "lasttoken"),
    "multilingual": (XLMRobertaConfig, {"pad_token_id": 1}, "mean"),
    "paper-mistral-7b": (MistralConfig, GROUPED, None),
    "qwen3-0.6b": (Qwen3Config, GROUPED, "lasttoken"),
    "reranker": (BertConfig, {}, "cls"),
    "two-gpus": (BertConfig, {}, "cls"),
}


def _tokenizer() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(
        models.WordLevel({token: number for number, token in enumerate([*special, *WORDS])}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named, pad_token="[PAD]", model_max_length=64)


def make_stand_in(name: str, folder: Path) -> Path:
    """The stand-in of a recipe's base, as a folder within this one."""
    torch.manual_seed(1)
    config_class, settings, pooling = STAND_INS[name]
    config = config_class(**{**SHAPE, **settings})
    weights = folder / "weights"
    maker = AutoModelForCausalLM if pooling is None else AutoModel
    maker.from_config(config).save_pretrained(weights)
    _tokenizer().save_pretrained(weights)
    if pooling is None:
        return weights
    modules = [Transformer(str(weights)), Pooling(32, pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"
