"""Build and save rerankers: sentence-transformers cross-encoders with one score a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers import AutoConfig

from multigrain.config import TrainingConfig
from multigrain.config.paths import STATIC_PREFIX
from multigrain.errors import ModelError
from multigrain.model.attention.direction import is_decoder
from multigrain.model.loading import (
    adapted_base,
    is_asymmetric,
    locate,
    require_positions,
    transformer_folder,
    unloadable,
)


def build_reranker(settings: TrainingConfig, *, seed: int = 0, device: str | None = None) -> CrossEncoder:
    """A cross-encoder as a candidate is trained from it: an encoder under a fresh head, or a reranker with its own.

    Of an embedding model the transformer is taken alone: its pooling, prompts and further modules are left out.

    Args:
        settings: the candidate's (`TrainingConfig.resolve`).
        seed: of a fresh head's first values.
        device: where to put it; None lets sentence-transformers choose.

    Raises:
        ModelError: the base cannot be loaded, reads fewer tokens, or is no encoder.
        MissingExtraError: `package:NAME` is not installed.
    """
    reference, trusted = settings.base_model, settings.trust_remote_code
    source = check_reranker_base(reference, max_seq_length=settings.max_seq_length, trust_remote_code=trusted)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model: CrossEncoder = CrossEncoder(
                source,
                num_labels=1,
                max_length=settings.max_seq_length,
                device=device,
                trust_remote_code=trusted,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise unloadable(reference, error) from error
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.float()
    return model


def check_reranker_base(reference: str, *, max_seq_length: int | None = None, trust_remote_code: bool = False) -> str:
    """See that a model can be tuned into a reranker, by its config alone.

    Args:
        reference: a folder, a hub id, `package:NAME` or `auto`.
        max_seq_length: tokens of a pair that it shall read; None for its own limit.
        trust_remote_code: run code that comes with it.

    Returns:
        The folder or hub id of its transformer.

    Raises:
        ModelError: it is not there, reads fewer tokens, or is no encoder.
        MissingExtraError: `package:NAME` is not installed.
    """
    wrong = "a reranker is tuned from an encoder, such as a BERT, or from an embedding model made of one"
    if reference.startswith(STATIC_PREFIX) or is_asymmetric(reference):
        raise ModelError(f"{reference}: {wrong}; this one has no single transformer")
    source = locate(reference)
    if adapted_base(Path(source)) is not None:
        raise ModelError(f"{reference}: holds adapters alone; merge them into their base first")
    folder = transformer_folder(Path(source))
    if folder is None:
        raise ModelError(f"{reference}: {wrong}; this one has no transformer")
    source = str(folder) if folder.is_dir() else source
    try:
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(reference, error) from None
    if is_decoder(config):
        raise ModelError(f"{reference}: {wrong}; this one is a decoder ({config.model_type})")
    if max_seq_length is not None:
        require_positions(config, max_seq_length, reference)
    return source


def describe_reranker(model: CrossEncoder) -> str:
    """A reranker in a line: architecture, size, tokens of a pair."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{type(model.transformers_model).__name__}, {total / 1e6:.3g} million weights, {model.max_seq_length} tokens"
    )


def save_reranker(model: CrossEncoder, folder: Path) -> None:
    """Write a tuned reranker as an ordinary sentence-transformers folder without a model card."""
    model.save_pretrained(str(folder), create_model_card=False)
