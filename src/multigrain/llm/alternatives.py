"""The probabilities of tokens that a model might have written in an answer's place, where an endpoint tells them.

Whatever comes back is untrusted: what cannot be read counts as not told.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

TokenChoices: TypeAlias = tuple[str, tuple[tuple[str, float], ...]]
"""A token of an answer, and what might have stood in its place, itself among it: tokens with their log-probabilities.
Tokens without a digit have none: only numbers are asked about."""

_DIGIT: Final = re.compile(r"[0-9]")
_NUMBER: Final = re.compile(r'[\s:"]*([0-9]+)[\s",}]*')
_MOST_TOKENS: Final = 4096
_MOST_CHOICES: Final = 32
_LONGEST: Final = 64
_ROUNDING: Final = 1e-3
_LEAST_MASS: Final = 0.5
"""Of probability that must be told: where the model would rather have written something else, it meant no number."""


def read_alternatives(logprobs: Any) -> tuple[TokenChoices, ...] | None:
    """The `logprobs` of a choice; None where there are none, or they are of another form.

    Args:
        logprobs: the parsed JSON; untrusted.
    """
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list) or not 0 < len(content) <= _MOST_TOKENS:
        return None
    found: list[TokenChoices] = []
    for entry in content:
        token = entry.get("token") if isinstance(entry, Mapping) else None
        if not isinstance(token, str):
            return None
        found.append((token, _choices(token, entry) if _DIGIT.search(token) else ()))
    return tuple(found)


def dump_alternatives(alternatives: tuple[TokenChoices, ...] | None) -> str | None:
    """As a journal keeps them: ASCII JSON; None for none."""
    return None if alternatives is None else json.dumps(alternatives, separators=(",", ":"))


def load_alternatives(kept: str | None) -> tuple[TokenChoices, ...] | None:
    """What `dump_alternatives` made."""
    if kept is None:
        return None
    return tuple((token, tuple((text, chance) for text, chance in choices)) for token, choices in json.loads(kept))


def expected_number(
    alternatives: tuple[TokenChoices, ...] | None, field: str, value: int, *, low: int, high: int
) -> float | None:
    """The mean of a number over the probabilities of those that might have stood in its place.

    Args:
        alternatives: of a whole answer.
        field: the field of the answer's JSON object that holds the number; the last one of the name counts.
        value: the number that was answered.
        low: the lowest number of the scale; others are no numbers of it.
        high: the highest; one digit long, as a number of several may be several tokens.

    Returns:
        A number from `low` to `high`; None where no probabilities were told, they are not of this answer, or numbers
        of the scale have less than half of them.
    """
    place = _place_of(alternatives or (), field)
    if alternatives is None or place is None:
        return None
    token, choices = alternatives[place]
    weights: dict[str, float] = {}
    for text, chance in choices:
        weights[text] = max(weights.get(text, 0.0), math.exp(min(chance, 0.0)))
    numbers = [(number, weight) for text, weight in weights.items() if (number := _number(text)) is not None]
    told = [(number, weight) for number, weight in numbers if low <= number <= high]
    mass = sum(weight for _, weight in told)
    if _number(token) != value or not _LEAST_MASS <= mass <= 1 + 0.01 or sum(weights.values()) > 1 + 0.01:
        return None
    mean = sum(number * weight for number, weight in told) / mass
    likely = [number for number, weight in told if weight > 0]
    # A mean of rounded products may leave the numbers that it is of by a last bit.
    return min(max(mean, float(min(likely))), float(max(likely)))


def _choices(token: str, entry: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    told = entry.get("top_logprobs")
    listed = told[:_MOST_CHOICES] if isinstance(told, list) else []
    choices = [
        (text, chance)
        for each in listed
        if (text := _text(each)) is not None and (chance := _chance(each)) is not None
    ]
    own = _chance(entry)
    if own is not None and token not in (text for text, _ in choices):
        choices.append((token, own))
    return tuple(choices)


def _text(entry: Any) -> str | None:
    token = entry.get("token") if isinstance(entry, Mapping) else None
    return token if isinstance(token, str) and len(token) <= _LONGEST else None


def _chance(entry: Any) -> float | None:
    """A log-probability: finite, and at most 0 but for a rounding."""
    chance = entry.get("logprob") if isinstance(entry, Mapping) else None
    if isinstance(chance, bool) or not isinstance(chance, int | float):
        return None
    try:
        chance = float(chance)
    except OverflowError:
        return None
    return chance if math.isfinite(chance) and chance <= _ROUNDING else None


def _number(token: str) -> int | None:
    found = _NUMBER.fullmatch(token)
    return int(found[1]) if found is not None and found[1].isascii() and len(found[1]) == 1 else None


def _place_of(alternatives: tuple[TokenChoices, ...], field: str) -> int | None:
    """Which token begins the number of a field."""
    text = "".join(token for token, _ in alternatives)
    found = list(re.finditer(rf'"{re.escape(field)}"\s*:\s*"?(?=[0-9])', text))
    if not found:
        return None
    digit, start = found[-1].end(), 0
    for place, (token, _) in enumerate(alternatives):
        if start <= digit < start + len(token):
            return place
        start += len(token)
    return None
