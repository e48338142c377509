"""Checks that need nothing but the text: what a language model wrote that is no query, or no negative."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from multigrain.config import AuditConfig
from multigrain.records import SynthesizedRow, TaskKind
from multigrain.sources.words import fold_words, word_ngrams

__all__ = ["Problem", "check_negative", "check_positive", "check_query", "containment", "limits_for"]

# People too write "I can't log in": a refusal is what a text opens with, and names what only a model is asked to do.
# The pattern of `llm.answers` may be looser: it names answers without an object in them, which are lost anyway.
_SORRY: Final = (
    r"(?:i(?:'m| am) (?:\w+ )?(?:sorry|afraid)|i apologi[sz]e|(?:my )?apologies|sorry|unfortunately)\b.{0,60}?\b"
)
_CANNOT: Final = (
    r"i(?: can(?:'t|not| not)| could(?:n't| not)| won't| will not|(?: am|'m) (?:unable to|not able to|not going to))"
    r"(?: be able to)? "
)
_WRITE: Final = r"(?:provide|generate|create|write|produce|answer)\b"
_OUR_TEXT: Final = r"(?:quer(?:y|ies)|passages?|texts?|contents?|documents?|requests?|prompts?|information)\b"
_REFUSAL: Final = re.compile(
    rf"^\W*(?:(?:{_SORRY})?(?:as an? (?:ai|(?:large )?language model)(?: language model| model| assistant)?(?:,| i\b)"
    rf"|{_CANNOT}(?:(?:assist|comply|fulfil)|help(?: you)?(?: with\b|\W*$|[.,;!])"
    rf"|{_WRITE} (?:(?:\w+ ){{0,3}}?{_OUR_TEXT}|(?:that|this)\W*$)))"
    rf"|{_SORRY}(?:{_CANNOT}{_WRITE}|but (?:\w+ ){{1,3}}?{_OUR_TEXT}))",
    re.I,
)
_ECHO: Final = re.compile(
    r":\s*$"  # "Here is the query:" and whatever else only announces a text
    r"|^(?:here(?:'s| is) (?:a|an|the|one|your)\b|sure[,.!]|certainly[,.!]|of course[,.!])"
    r"|\blevel_[1-4]\b",
    re.I,
)
_MIN_COPIED_WORDS: Final = 8
_LONGEST_TASK_QUERY: Final = 1000


@dataclass(frozen=True)
class Problem:
    """Why a text is turned away.

    Attributes:
        reason: a short stable word.
        detail: the figure or words behind it.
    """

    reason: str
    detail: str


def limits_for(row: SynthesizedRow, config: AuditConfig) -> AuditConfig:
    """The limits on lengths as they go for a row: rows for tasks have long queries or passages of one word by kind."""
    if row.task is None or row.query_type not in tuple(TaskKind):
        return config
    changes: dict[str, Any] = {"min_query_words": 1}
    if row.query_type in (TaskKind.LONG_SHORT, TaskKind.LONG_LONG):
        changes["max_query_words"] = _LONGEST_TASK_QUERY
    return config.model_copy(update=changes)


def check_query(query: str, positive: str, config: AuditConfig) -> Problem | None:
    """What is wrong with a written query, or None.

    Args:
        query: as the model wrote it.
        positive: the passage it should find.
        config: the limits, and which checks are on.
    """
    on = config.checks
    words = fold_words(query).split()
    if not words:
        return Problem("empty", repr(query[:60])) if on.empty or not query.strip() else None
    wrong = _not_an_answer(query, config) or _wrong_length(words, config.max_query_words, config)
    if wrong is not None:
        return wrong
    if on.repeats and len(set(words)) * 2 < len(words) and len(words) >= _MIN_COPIED_WORDS:
        return Problem("repetition", f"{len(set(words))} different words of {len(words)}")
    if on.copied and len(words) >= _MIN_COPIED_WORDS and " ".join(words) in fold_words(positive):
        return Problem("copied_document", "the query is a passage of its document")
    return None


def check_positive(query: str, positive: str, config: AuditConfig, *, written: bool) -> Problem | None:
    """What is wrong with a positive, or None.

    Args:
        query: the row's query.
        positive: the passage that answers it.
        config: which checks are on.
        written: whether a language model wrote it: a document of the corpus may say what it likes.
    """
    words = fold_words(positive).split()
    if not words:
        return Problem("empty", f"the positive is {positive[:60]!r}")
    if config.checks.repeats and " ".join(words) == fold_words(query):
        return Problem("copied_query", "the positive repeats the query")
    return _not_an_answer(positive, config) if written else None


def check_negative(text: str, query: str, positive: str, config: AuditConfig) -> Problem | None:
    """What is wrong with a written negative, or None.

    Args:
        text: as the model wrote it.
        query: the row's query.
        positive: the row's positive.
        config: the limits, and which checks are on.
    """
    on = config.checks
    words = fold_words(text).split()
    if not words:
        return Problem("empty", repr(text[:60]))
    wrong = _wrong_length(words, config.max_passage_words, config) or _not_an_answer(text, config)
    if wrong is not None:
        return wrong
    if on.repeats and len(set(words)) * 3 < len(words) and len(words) >= _MIN_COPIED_WORDS:
        return Problem("repetition", f"{len(set(words))} different words of {len(words)}")
    if on.repeats and " ".join(words) == fold_words(query):
        return Problem("copied_query", "the negative repeats the query")
    copied = containment(text, positive) if on.copied else 0.0
    if copied > config.max_copied_share:
        return Problem("copied_document", f"{copied:.0%} of its word trigrams stand in the positive")
    return None


def containment(text: str, other: str) -> float:
    """The share of a text's distinct word trigrams that another text holds too, 0-1."""
    own = word_ngrams(text)
    return len(own & word_ngrams(other)) / len(own)


def _not_an_answer(text: str, config: AuditConfig) -> Problem | None:
    if config.checks.refusal and _REFUSAL.search(text.replace("’", "'")):
        return Problem("refusal", text[:80])
    if config.checks.prompt_echo and _ECHO.search(text.strip()):
        return Problem("prompt_echo", text[:80])
    return None


def _wrong_length(words: list[str], most: int | None, config: AuditConfig) -> Problem | None:
    if config.checks.short and len(words) < config.min_query_words:
        return Problem("too_short", f"{len(words)} words, at least {config.min_query_words}")
    if config.checks.long and most is not None and len(words) > most:
        return Problem("too_long", f"{len(words)} words, at most {most}")
    return None
