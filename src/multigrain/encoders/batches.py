"""Batches of texts by the tokens that they hold, not by their number.

A CPU computes fastest on as much as its caches hold, whatever the number of texts; a GPU wants as many texts as fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from transformers import PreTrainedTokenizerBase

TOKENS: Final = 1_536
"""Tokens of a batch on a CPU, padding included: of 192 to 6,144 the fastest, by a seventh, for a model of 22 million
weights (`benchmarks/demo_speed.py --only encoding`)."""

_GPU_TOKENS: Final = 65_536

_MOST_CHARACTERS: Final = 8
"""More than texts of any language have on average: so many characters nearly always hold all tokens that are read."""
_SPARE_TOKENS: Final = 8
_ASSUMED_CHARACTERS: Final = 3
_SPECIAL_TOKENS: Final = 3
_COUNTERS: Final[WeakKeyDictionary[PreTrainedTokenizerBase, Any]] = WeakKeyDictionary()
_COUNTED: Final = 1_024  # texts tokenised at a time to count


def about_tokens(characters: int, *, at_most: int | None) -> int:
    """About how many tokens a text has for a model: rather too many than too few.

    Args:
        characters: of the text.
        at_most: tokens that the model reads; None for any number.
    """
    tokens = characters // _ASSUMED_CHARACTERS + _SPECIAL_TOKENS
    return tokens if at_most is None else min(tokens, at_most)


def pair_tokens(device: torch.device) -> int:
    """Tokens of a batch of pairs that a reranker scores at once, padding included, on a device."""
    return TOKENS if device.type == "cpu" else _GPU_TOKENS


def token_batches(lengths: Sequence[int], budget: int, *, texts: int | None = None) -> Iterator[list[int]]:
    """Batches that hold at most so many tokens each, padding among them; a longer text is a batch by itself.

    The longest go first, so that what does not fit a device is known at once.

    Args:
        lengths: tokens of each text.
        budget: tokens of a batch.
        texts: most of a batch; None for any number.

    Yields:
        Places of texts; each stands in one batch.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) == texts or (len(batch) + 1) * lengths[batch[0]] > budget):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


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
    parts = [_cut(text, limit * _MOST_CHARACTERS) for text in texts]
    lengths: list[int] = []
    counter = _counter(tokenizer)
    for start in range(0, len(parts), _COUNTED):
        lengths += [len(encoding) for encoding in counter.encode_batch_fast(parts[start : start + _COUNTED])]
    whole = (
        part if length >= limit + _SPARE_TOKENS else text
        for part, length, text in zip(parts, lengths, texts, strict=True)
    )
    return list(whole), [min(length, limit) for length in lengths]


def _counter(tokenizer: PreTrainedTokenizerBase) -> Any:
    """A tokenizer's own copy for counting: switching its truncation off would reach into other threads' calls."""
    if tokenizer not in _COUNTERS:
        backend: Any = tokenizer.backend_tokenizer
        copy = type(backend).from_str(backend.to_str())
        copy.no_truncation()
        copy.no_padding()
        _COUNTERS[tokenizer] = copy
    return _COUNTERS[tokenizer]


def _cut(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    words = text[: characters + 1].rsplit(None, 1)
    return words[0] if len(words) > 1 else text
