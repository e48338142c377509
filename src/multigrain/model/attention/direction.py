"""Which way a decoder attends: only back (causal), or both ways (bidirectional)."""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from multigrain.config import AttentionName
from multigrain.errors import ModelError
from multigrain.model.attention.observed import evaluating

# Gemma 3 has a switch of its own; the others read transformers' `is_causal` (5.2 and later).
_OWN_SWITCH = "use_bidirectional_attention"


def is_decoder(config: PreTrainedConfig) -> bool:
    """Whether a transformer was made to predict the next token, and not to fill in masked ones."""
    kind = config.model_type.removesuffix("_text")
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def set_attention(model: SentenceTransformer, attention: AttentionName) -> None:
    """Let a decoder attend causally or both ways, in place. The choice is saved with the model's config.

    Raises:
        ModelError: the model is no decoder, or its architecture ignores the choice (measured on a few tokens).
    """
    if attention == "keep":
        return
    transformer = model[0]
    if not isinstance(transformer, Transformer) or not is_decoder(transformer.model.config):
        if attention == "bidirectional" and isinstance(transformer, Transformer):
            return  # an encoder attends both ways as it is
        raise ModelError(f"attention: {attention} needs a decoder; {_kind(transformer)} is none, use attention: keep")
    config, both_ways = transformer.model.config, attention == "bidirectional"
    config.is_causal = not both_ways
    if hasattr(config, _OWN_SWITCH):
        setattr(config, _OWN_SWITCH, both_ways)
    for module in transformer.model.modules():
        # Some architectures copy the switch into every layer when they are built.
        if hasattr(module, _OWN_SWITCH):
            setattr(module, _OWN_SWITCH, both_ways)
    if is_bidirectional(transformer.model) != both_ways:
        raise ModelError(
            f"{type(transformer.model).__name__}: its attention cannot be made {attention} by transformers' switch; "
            "use attention: keep"
        )


def is_bidirectional(model: nn.Module) -> bool:
    """Whether a change of the last token changes the states of the first."""
    device = next(model.parameters()).device
    tokens = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]], device=device)
    with evaluating(model), torch.no_grad():
        states = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    return not torch.allclose(states[0, 0], states[1, 0], atol=1e-6, rtol=1e-5)


def _kind(module: nn.Module) -> str:
    return type(module.model).__name__ if isinstance(module, Transformer) else type(module).__name__
