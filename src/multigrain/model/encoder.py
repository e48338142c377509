"""Build, load and use encoders: sentence-transformers models whose pooling this package may have replaced."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module

from multigrain.config import PoolingName
from multigrain.errors import ModelError
from multigrain.model.loading import load_any
from multigrain.model.pooling import AtaOptions
from multigrain.model.precision import mixed_precision
from multigrain.model.replacing import pooling_name, replace_pooling

__all__ = ["build_encoder", "encode", "load", "pooling_name", "weights_fingerprint"]


def build_encoder(
    reference: str,
    *,
    pooling: PoolingName = "keep",
    max_seq_length: int | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    ata: AtaOptions | None = None,
) -> SentenceTransformer:
    """Load a base encoder and give it the pooling asked for; what follows the pooling (normalising, dense) stays.

    Args:
        reference: a folder, a hub id, `package:NAME` or `auto`.
        pooling: keep (the base's own), or one of those that `config.PoolingName` lists.
        max_seq_length: tokens of a text that are read; None for the base's own.
        trust_remote_code: run code that comes with the base.
        device: where to put it; None lets sentence-transformers choose.
        ata: options of `ata` and `diagonal` pooling; None for the defaults.

    Raises:
        ModelError: the base cannot be loaded, reads fewer tokens, pools nothing, or its architecture cannot do
            the pooling asked for.
        MissingExtraError: `package:NAME` is not installed.
    """
    model = load_any(reference, device=device, trust_remote_code=trust_remote_code)
    if max_seq_length is not None:
        _limit_tokens(model, max_seq_length, reference)
    try:
        replace_pooling(model, pooling, ata or AtaOptions())
    except ModelError as error:
        raise ModelError(f"{reference}: {error}") from None
    return model


def load(path: str, *, device: str | None = None, trust_remote_code: bool = False) -> SentenceTransformer:
    """Load a model as it was saved; one with ATA pooling needs no flag here.

    Args:
        path: a folder, or anything else `build_encoder` loads.
        device: where to put it; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with the model (never needed for this package's own modules).

    Raises:
        ModelError: there is no usable model at `path`.
    """
    return load_any(str(path), device=device, trust_remote_code=trust_remote_code)


def encode(
    model: SentenceTransformer,
    texts: list[str],
    *,
    batch_size: int = 64,
    bf16: bool = False,
    show_progress: bool = False,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> NDArray[np.float32]:
    """Embed texts.

    Args:
        model: the encoder.
        texts: what to embed.
        batch_size: texts a forward pass.
        bf16: compute in bf16 autocast (see `supports_native_bf16`).
        show_progress: draw a progress bar.
        prompt_name: one of the model's prompts, put before every text.
        prompt: a prompt of your own, put before every text.

    Returns:
        (texts, dimension) float32, L2-normalised, in the order of `texts`.
    """
    if not texts:
        return np.zeros((0, model.get_embedding_dimension() or 0), dtype=np.float32)
    with mixed_precision(model.device, bf16=bf16):
        embedded = model.encode(
            texts,
            batch_size=batch_size,
            show_progress_bar=show_progress,
            prompt_name=prompt_name,
            prompt=prompt,
            convert_to_numpy=True,
        )
    vectors: NDArray[np.float32] = np.asarray(embedded, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def weights_fingerprint(model: SentenceTransformer) -> str:
    """A SHA-256 over everything that decides a model's vectors: weights, modules' settings, length limit, tokenizer.

    Equal fingerprints may share cached embeddings of the same precision.
    """
    digest = hashlib.sha256()
    for module in model.children():
        settings = module.get_config_dict() if isinstance(module, Module) else {}
        digest.update(json.dumps([type(module).__name__, settings], sort_keys=True, default=str).encode())
    digest.update(json.dumps([model.max_seq_length, _vocabulary(model)], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _vocabulary(model: SentenceTransformer) -> dict[str, Any]:
    """The tokenizer's settings, without the padding and truncation that each call sets anew."""
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if backend is None:
        return {}
    settings: dict[str, Any] = json.loads(backend.to_str())
    return {key: value for key, value in settings.items() if key not in ("padding", "truncation")}


def _limit_tokens(model: SentenceTransformer, limit: int, reference: str) -> None:
    positions = getattr(model.config, "max_position_embeddings", None) if model.config is not None else None
    if isinstance(positions, int) and 0 < positions < limit:
        raise ModelError(f"{reference}: max_seq_length {limit} is more than the {positions} tokens the model can read")
    model.max_seq_length = limit
