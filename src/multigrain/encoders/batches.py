"""Batches of texts by the tokens that they hold, not by their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

_CHARACTERS_A_TOKEN: Final = 3
_SPECIAL_TOKENS: Final = 3


def about_tokens(characters: int, *, at_most: int | None) -> int:
    """About how many tokens a text has for a model: rather too many than too few.

    Args:
        characters: of the text.
        at_most: tokens that the model reads; None for any number.
    """
    tokens = characters // _CHARACTERS_A_TOKEN + _SPECIAL_TOKENS
    return tokens if at_most is None else min(tokens, at_most)


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Batches that hold at most so many tokens each, padding among them; a longer text is a batch by itself.

    The longest go first, so that what does not fit a device is known at once.

    Args:
        lengths: tokens of each text.
        budget: tokens of a batch.

    Yields:
        Places of texts; each stands in one batch.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
