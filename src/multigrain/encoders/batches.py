"""Which texts go through a model together on a CPU: texts of like length, as many as their tokens allow.

A CPU computes fastest on as much as its caches hold, whatever the number of texts; a GPU wants as many texts as fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from transformers import PreTrainedTokenizerBase

TOKENS: Final = 1_536
"""Tokens of a batch on a CPU, padding included: of 192 to 6,144 the fastest, by a seventh, for a model of 22 million
weights (`benchmarks/demo_speed.py --only encoding`)."""

_CHARACTERS_A_TOKEN: Final = 8
"""More than texts of any language have on average: so many characters nearly always hold all tokens that are read."""
_SPARE_TOKENS: Final = 8
_COUNTED: Final = 1_024  # texts tokenised at a time to count


def token_batches(lengths: Sequence[int], *, tokens: int, texts: int) -> Iterator[list[int]]:
    """Positions in batches of like length, the longest first.

    Args:
        lengths: tokens of each text.
        tokens: most of a batch, each text taken to be as long as its longest; a longer text is a batch alone.
        texts: most of a batch.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    start = 0
    while start < len(order):
        width = max(1, lengths[order[start]])
        size = max(1, min(texts, tokens // width))
        yield order[start : start + size]
        start += size


def readable_parts(model: SentenceTransformer, texts: Sequence[str]) -> tuple[list[str], list[int]] | None:
    """Texts without what the model never reads of them, and their lengths in tokens.

    A text is cut where a word ends, and only if what is left has more tokens than are read: tokenising megabytes to
    keep a hundred tokens can take longer than the model does.

    Returns:
        The texts and their tokens, at most as many as are read; None where the model has no such tokenizer.
    """
    tokenizer, limit = model.tokenizer if isinstance(model[0], Transformer) else None, model.max_seq_length
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast or limit is None:
        return None
    if tokenizer.truncation_side != "right":
        return None
    parts = [_cut(text, limit * _CHARACTERS_A_TOKEN) for text in texts]
    lengths: list[int] = []
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for start in range(0, len(parts), _COUNTED):
        lengths += [len(encoding) for encoding in backend.encode_batch_fast(parts[start : start + _COUNTED])]
    whole = (
        part if length >= limit + _SPARE_TOKENS else text
        for part, length, text in zip(parts, lengths, texts, strict=True)
    )
    return list(whole), [min(length, limit) for length in lengths]


def _cut(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    words = text[: characters + 1].rsplit(None, 1)
    return words[0] if len(words) > 1 else text
