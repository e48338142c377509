"""What a runtime without sentence-transformers must be told: prompts, lengths, a tokenizer that truncates and pads."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from multigrain.encoders.encoder import default_prompt, document_prompt, query_prompt
from multigrain.errors import ExportError
from multigrain.export.graph import is_normalised
from multigrain.model.replacing import pooling_name

# Tokenizers without a limit say so with a huge number.
_NO_LIMIT = 1_000_000


def token_limit(model: SentenceTransformer) -> int | None:
    """Tokens of a text that are read, special ones included; None for no limit."""
    limit = model.max_seq_length
    return None if limit is None or limit > _NO_LIMIT else int(limit)


def write_tokenizer(model: SentenceTransformer, path: Path) -> None:
    """Write a tokenizer.json that truncates and pads by itself.

    Raises:
        ExportError: the tokenizer is not a fast one, or has no padding token.
    """
    tokenizer: Any = model.tokenizer
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ExportError(f"its {type(tokenizer).__name__} has no tokenizer.json; only fast tokenizers are exported")
    if tokenizer.pad_token_id is None:
        raise ExportError("its tokenizer has no padding token; set tokenizer.pad_token and save the model again")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    limit = token_limit(model)
    if limit is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(limit, direction=tokenizer.truncation_side)
    backend.enable_padding(
        direction=tokenizer.padding_side, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
    )
    backend.save(str(path))


def export_settings(model: SentenceTransformer, source: str, *, pools_prompt: bool) -> dict[str, Any]:
    """The content of export.json, as far as the model decides it.

    Args:
        model: what is exported.
        source: what the user called it.
        pools_prompt: whether the prompt's tokens are part of the vector.
    """
    tokenizer: Any = model.tokenizer
    return {
        "made_by": f"multigrain {version('multigrain')}",
        "model": source,
        "architecture": type(model.transformers_model).__name__,
        "pooling": pooling_name(model),
        "dimension": model.get_embedding_dimension(),
        "max_tokens": token_limit(model),
        "normalised": is_normalised(model),
        "similarity": str(model.similarity_fn_name),
        "prompts": {name: text or "" for name, text in model.prompts.items()},
        "query_prompt": query_prompt(model),
        "document_prompt": document_prompt(model),
        "default_prompt": default_prompt(model),
        "pools_prompt": pools_prompt,
        "special_ids": sorted(tokenizer.all_special_ids),
    }
