"""What computes a model's attention, where it is chosen: whether it can be had here, and whether the model took it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from multigrain.config import AttentionImplementation
from multigrain.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Importing this loads no torch: a run checks the implementation before anything is done.


def check_implementation(name: AttentionImplementation | None, *, device: str | None = None) -> None:
    """See that an implementation of attention can be had on this machine.

    Args:
        name: the implementation; None for transformers' choice.
        device: where the model will be; None for the GPU.

    Raises:
        ModelError: FlashAttention-2, and the device is no CUDA GPU that computes bf16.
        MissingExtraError: FlashAttention-2, and its package is not installed.
    """
    if name != "flash_attention_2":
        return
    from multigrain.model.precision import supports_native_bf16

    chosen = device or "cuda"
    if not chosen.startswith("cuda") or not supports_native_bf16(chosen):
        raise ModelError(
            "attn_implementation: flash_attention_2 needs a CUDA GPU that computes bf16, and "
            + (f"{chosen} is none" if device else "there is none here")
            + ": use sdpa, or leave it out"
        )
    if find_spec("flash_attn") is None:
        # transformers could fetch the kernel from the hub instead, under a name by which attention cannot be read.
        raise MissingExtraError(
            "flash-attn", "attn_implementation: flash_attention_2", "pip install flash-attn --no-build-isolation"
        )


def require_implementation(model: SentenceTransformer, name: AttentionImplementation | None) -> None:
    """See that a loaded model computes attention as it was asked to.

    Args:
        model: the model.
        name: what it was asked for; None for transformers' choice.

    Raises:
        ModelError: it has no attention, or its attention is read and this implementation does not show it.
    """
    if name is None:
        return
    from multigrain.model.attention.observed import ObservedTransformer

    if model.transformers_model is None:
        raise ModelError(f"attn_implementation: {name} needs a transformer; static embeddings have no attention")
    if name == "eager" and any(isinstance(module, ObservedTransformer) for module in model.children()):
        raise ModelError(
            "its pooling reads attention, which attn_implementation: eager does not show; use sdpa or "
            "flash_attention_2, or leave it out"
        )
