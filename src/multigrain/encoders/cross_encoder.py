"""Cross-encoders: models that read query and passage side by side, and score how well the one answers the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sentence_transformers import CrossEncoder
from torch.nn import Identity

from multigrain.display.text import first_line
from multigrain.encoders.batches import about_tokens, token_batches
from multigrain.encoders.protocol import Floats
from multigrain.errors import ModelError
from multigrain.model.allocator import keep_freed_memory

_HEADS: Final = ("ForSequenceClassification", "ForCausalLM")


def load_cross_encoder(
    reference: str,
    *,
    setting: str,
    trust_remote_code: bool = False,
    max_seq_length: int | None = None,
    device: str | None = None,
) -> CrossEncoder:
    """Load a cross-encoder that gives one score a pair.

    Args:
        reference: a folder or a hub id.
        setting: the config key that names it, for errors.
        trust_remote_code: run code that comes with it.
        max_seq_length: tokens of a pair that are read; None for its own limit.
        device: where to put it; None lets sentence-transformers choose.

    Raises:
        ModelError: it cannot be loaded, scores no pairs, or gives more than one score a pair.
    """
    keep_freed_memory()
    model: CrossEncoder
    try:
        model = CrossEncoder(reference, trust_remote_code=trust_remote_code, max_length=max_seq_length, device=device)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{setting} {reference!r}: cannot be loaded as a cross-encoder ({first_line(error)}): "
            "give a folder or a hub id of a sentence-transformers cross-encoder"
        ) from None
    if model.num_labels != 1:
        raise ModelError(
            f"{setting} {reference!r}: gives {model.num_labels} scores a pair; a cross-encoder with one is needed"
        )
    made_for = getattr(model.config, "architectures", None) or []
    if not any(name.endswith(_HEADS) for name in made_for):
        # It would be loaded all the same, with a head of random weights.
        raise ModelError(
            f"{setting} {reference!r}: holds {', '.join(made_for) or 'no scoring head'}, which scores no pairs; "
            "give a cross-encoder, not an embedding model"
        )
    return model


def pair_logits(model: CrossEncoder, pairs: Sequence[tuple[str, str]], *, batch_tokens: int) -> Floats:
    """Score (query, passage) pairs: (pairs,) float32 log-odds, in their order.

    Args:
        model: gives one score a pair.
        pairs: what to score.
        batch_tokens: tokens a forward pass, padding among them.
    """
    lengths = [about_tokens(len(query) + len(passage), at_most=model.max_seq_length) for query, passage in pairs]
    logits = np.zeros(len(pairs), dtype=np.float32)
    for batch in token_batches(lengths, batch_tokens):
        chosen = [pairs[place] for place in batch]
        logits[batch] = np.asarray(
            model.predict(chosen, batch_size=len(chosen), show_progress_bar=False, activation_fn=Identity()),
            dtype=np.float32,
        ).reshape(-1)
    return logits
