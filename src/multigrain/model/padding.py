"""What tokenizers fill batches with."""

from __future__ import annotations

from typing import Any

from sentence_transformers.base.modules import Transformer

from multigrain.errors import ModelError


def pad_by_something(transformer: Transformer) -> None:
    """Give a tokenizer without a padding token one that the attention mask hides; many decoders have none.

    Raises:
        ModelError: it has no token for that.
    """
    tokenizer: Any = transformer.tokenizer
    if getattr(tokenizer, "pad_token", "") is None:
        filler = tokenizer.eos_token or tokenizer.unk_token
        if filler is None:
            raise ModelError("its tokenizer has no padding, end or unknown token to fill batches with")
        tokenizer.pad_token = filler
        config: Any = transformer.model.config
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id
