"""Checks that need nothing but the text: what a language model wrote that is no query, or no negative."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multigrain.config import AuditConfig
from multigrain.sources.grouping import normalise, word_ngrams

__all__ = ["Problem", "check_negative", "check_query", "containment"]

_REFUSAL: Final = re.compile(
    r"\b(as an ai\b|i(?:'| a)m sorry|i (?:can(?:no|')t|am unable to|won't) |language model\b|i apologi[sz]e)", re.I
)
_ECHO: Final = re.compile(
    r":\s*$"  # "Here is the query:" and whatever else only announces a text
    r"|^(?:here(?:'s| is) (?:a|an|the|one|your)\b|sure[,.!]|certainly[,.!]|of course[,.!])",
    re.I,
)
_MIN_COPIED_WORDS: Final = 8


@dataclass(frozen=True)
class Problem:
    """Why a text is turned away.

    Attributes:
        reason: a short stable word.
        detail: the figure or words behind it.
    """

    reason: str
    detail: str


def check_query(query: str, positive: str, config: AuditConfig) -> Problem | None:
    """What is wrong with a written query, or None.

    Args:
        query: as the model wrote it.
        positive: the passage it should find.
        config: the limits.
    """
    words = normalise(query).split()
    if not words:
        return Problem("empty", repr(query[:60]))
    if _REFUSAL.search(query):
        return Problem("refusal", query[:80])
    if _ECHO.search(query.strip()):
        return Problem("prompt_echo", query[:80])
    if len(words) < config.min_query_words:
        return Problem("too_short", f"{len(words)} words, at least {config.min_query_words}")
    if len(words) > config.max_query_words:
        return Problem("too_long", f"{len(words)} words, at most {config.max_query_words}")
    if len(set(words)) * 2 < len(words) and len(words) >= _MIN_COPIED_WORDS:
        return Problem("repetition", f"{len(set(words))} different words of {len(words)}")
    if len(words) >= _MIN_COPIED_WORDS and " ".join(words) in normalise(positive):
        return Problem("copied_document", "the query is a passage of its document")
    return None


def check_negative(text: str, query: str, positive: str, config: AuditConfig) -> Problem | None:
    """What is wrong with a written negative, or None.

    Args:
        text: as the model wrote it.
        query: the row's query.
        positive: the row's positive.
        config: the limits.
    """
    words = normalise(text).split()
    if len(words) < config.min_query_words:
        return Problem("too_short", f"{len(words)} words, at least {config.min_query_words}")
    if _REFUSAL.search(text):
        return Problem("refusal", text[:80])
    if _ECHO.search(text.strip()):
        return Problem("prompt_echo", text[:80])
    if len(set(words)) * 3 < len(words) and len(words) >= _MIN_COPIED_WORDS:
        return Problem("repetition", f"{len(set(words))} different words of {len(words)}")
    if " ".join(words) == normalise(query):
        return Problem("copied_query", "the negative repeats the query")
    copied = containment(text, positive)
    if copied > config.max_copied_share:
        return Problem("copied_document", f"{copied:.0%} of its word trigrams stand in the positive")
    return None


def containment(text: str, other: str) -> float:
    """The share of a text's distinct word trigrams that another text holds too, 0-1."""
    own = word_ngrams(text)
    return len(own & word_ngrams(other)) / len(own)
