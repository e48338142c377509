"""What evaluation asks of an embedding model, and how sentence-transformers models answer it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedConfig

from multigrain.errors import EvaluationError
from multigrain.model.encoder import weights_fingerprint

__all__ = ["Encoder", "SentenceTransformerEncoder", "model_fingerprint"]

# Settings that say where a model came from or what wrote it, not what it computes.
_PROVENANCE: Final = frozenset({"transformers_version", "_name_or_path", "name_or_path"})


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors whose dot product is the model's similarity."""

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed queries: (len(texts), dimensions)."""
        ...

    def encode_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed documents: (len(texts), dimensions), the same dimensions as queries."""
        ...


class SentenceTransformerEncoder:
    """A loaded sentence-transformers model, with its own query and document prompts.

    Vectors are normalised where the model compares by cosine, and left alone where it compares by dot product.

    Args:
        model: the model; it is used where it lies (device, precision).
        batch_size: texts encoded at once.
        show_progress: draw sentence-transformers' progress bar.

    Raises:
        EvaluationError: the model compares by a distance, which is no dot product.
    """

    def __init__(self, model: SentenceTransformer, *, batch_size: int = 64, show_progress: bool = False) -> None:
        if model.similarity_fn_name not in ("cosine", "dot"):
            raise EvaluationError(
                f"the model compares by {model.similarity_fn_name}; retrieval is scored by cosine or dot product: "
                "set `similarity_fn_name` to one of them and save the model again"
            )
        self._model = model
        self._options: dict[str, Any] = {
            "batch_size": batch_size,
            "show_progress_bar": show_progress,
            "convert_to_numpy": True,
            "normalize_embeddings": model.similarity_fn_name == "cosine",
        }

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed queries with the model's query prompt, if it has one."""
        return _float32(self._model.encode_query(texts, **self._options))

    def encode_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed documents with the model's document prompt, if it has one."""
        return _float32(self._model.encode_document(texts, **self._options))


def model_fingerprint(model: SentenceTransformer) -> str:
    """A SHA-256 over everything that decides how a model answers, whatever its name or folder.

    Besides the weights, modules and tokenizer (`weights_fingerprint`) that is the backbone's config (attention may
    be causal or not), the prompts and the similarity. Two folders that differ only in weights differ here, and a
    copy of a folder does not.
    """
    settings = {
        "weights": weights_fingerprint(model),
        "backbones": [_backbone_settings(module) for module in model.children()],
        "prompts": model.prompts,
        "default_prompt": model.default_prompt_name,
        "similarity": str(model.similarity_fn_name),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _backbone_settings(module: torch.nn.Module) -> dict[str, Any]:
    config = getattr(getattr(module, "auto_model", None), "config", None)
    if not isinstance(config, PreTrainedConfig):
        return {}
    return {key: value for key, value in config.to_dict().items() if key not in _PROVENANCE}


def _float32(vectors: Any) -> NDArray[np.float32]:
    return np.asarray(vectors, dtype=np.float32)
