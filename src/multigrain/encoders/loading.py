"""Load a model as it was saved, wherever its base runs."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from multigrain.config import AttentionImplementation
from multigrain.encoders.adapted import is_adapted, load_adapted
from multigrain.model import encoder


def load(
    path: str,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: AttentionImplementation | None = None,
) -> SentenceTransformer:
    """Load a model as it was saved; one with ATA pooling needs no flag here.

    A folder with a query adapter for a model behind an endpoint gives a model that asks the endpoint.

    Args:
        path: a folder, or anything else `training.base_model` names that runs here.
        device: where to put it; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with the model (never needed for this package's own modules).
        attn_implementation: what computes attention: eager, sdpa or flash_attention_2, for which weights in float32
            become bfloat16. None for transformers' choice.

    Raises:
        ModelError: there is no usable model at `path`, or attention cannot be computed as asked.
        MissingExtraError: FlashAttention-2 is not installed.
        ConfigError: an endpoint's address cannot be, or has no key.
    """
    if is_adapted(str(path)):
        return load_adapted(path)
    return encoder.load(
        path, device=device, trust_remote_code=trust_remote_code, attn_implementation=attn_implementation
    )
