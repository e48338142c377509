"""Say in a line what a model is."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer

from multigrain.model.adapters import has_adapters
from multigrain.model.attention.direction import is_decoder
from multigrain.model.loading import is_raw
from multigrain.model.replacing import pooling_name


def describe_encoder(model: SentenceTransformer, reference: str) -> str:
    """A model in a line: architecture, size, attention, pooling and where it comes from, adapters, precision.

    Args:
        model: the model.
        reference: what it was built from.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    tuned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    first = model[0]
    if not isinstance(first, Transformer):
        return f"{type(first).__name__}, {_count(total)} weights"
    config = first.model.config
    causal = is_decoder(config) and getattr(config, "is_causal", True)
    kind = "decoder" if is_decoder(config) else "encoder"
    pooling = f"{pooling_name(model)} pooling"
    if is_raw(reference):
        pooling += (
            " (the checkpoint names none: last for causal decoders, mean for others, unless training.pooling says)"
        )
    parts = [
        f"{type(first.model).__name__}, {'a causal' if causal else 'a bidirectional'} {kind}",
        f"{_count(total)} weights in {str(model.dtype).removeprefix('torch.')}",
        pooling,
        f"{model.max_seq_length} tokens",
    ]
    if has_adapters(model):
        parts.append(f"adapters of {_count(tuned)} weights are tuned")
    return ", ".join(parts)


def _count(number: int) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)
