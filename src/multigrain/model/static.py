"""Static embeddings: a vector a token, averaged. They train in seconds, for fast checks of data and settings."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import nn

from multigrain.errors import MissingExtraError, ModelError


def token_embeddings(model: SentenceTransformer, *, device: str | None = None) -> SentenceTransformer:
    """A static model over an encoder's tokenizer, which starts from the encoder's input embeddings.

    Raises:
        ModelError: the model has no transformer with a fast tokenizer.
    """
    transformer = model[0]
    if not isinstance(transformer, Transformer):
        raise ModelError(
            f"static: needs a transformer to take token embeddings from, got {type(transformer).__name__}"
        )
    embeddings = transformer.model.get_input_embeddings()
    tokenizer = getattr(transformer.tokenizer, "backend_tokenizer", None)
    if not isinstance(embeddings, nn.Embedding) or tokenizer is None:
        raise ModelError(f"static: {type(transformer.model).__name__} has no token embeddings with a fast tokenizer")
    # A copy: the encoder's tokenizer keeps its padding and truncation.
    copy = type(tokenizer).from_str(tokenizer.to_str())
    copy.no_truncation()
    weights = embeddings.weight.detach().float().clone()
    return SentenceTransformer(modules=[StaticEmbedding(copy, embedding_weights=weights)], device=device or "cpu")


def is_model2vec(folder: Path) -> bool:
    """Whether a folder is a model2vec model without sentence-transformers' modules."""
    path = folder / "config.json"
    if not path.is_file() or (folder / "modules.json").is_file():
        return False
    try:
        settings: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("model_type") == "model2vec"


def read_model2vec(folder: Path, *, device: str | None = None) -> SentenceTransformer:
    """Load a model2vec folder.

    Raises:
        MissingExtraError: model2vec is not installed.
    """
    if find_spec("model2vec") is None:
        raise MissingExtraError("model2vec", f"{folder}, a model2vec model,", "pip install model2vec")
    return SentenceTransformer(modules=[StaticEmbedding.from_model2vec(str(folder))], device=device or "cpu")
