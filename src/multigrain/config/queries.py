"""What users type, in their words, and the kinds of queries that are then written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from multigrain.config.synthesis import QueryType, SynthesisConfig
from multigrain.errors import ConfigError

UserQueries = Literal["questions", "keywords", "titles", "claims", "messages", "mixed"]

_KINDS: Final[Mapping[UserQueries, Mapping[QueryType, float]]] = {
    "questions": {"question": 1.0},
    "keywords": {"keywords": 1.0},
    "titles": {"summary": 1.0},
    "claims": {"claim": 1.0},
    "messages": {"message": 1.0},
    "mixed": SynthesisConfig.model_fields["query_types"].default,
}
USER_QUERIES: Final[Mapping[UserQueries, str]] = {
    "questions": "whole questions: how do I rotate the logs?",
    "keywords": "a few words: log rotation",
    "titles": "titles and one-line summaries: Rotating the logs",
    "claims": "statements to check: logs are rotated weekly",
    "messages": "messages that describe a problem, as in a support form",
    "mixed": "a bit of everything, or you do not know yet",
}
"""The answers to "what do your users type?", with an example of each."""


def user_queries(text: str) -> tuple[UserQueries, ...]:
    """The answers in a text, with commas or spaces between them.

    Raises:
        ConfigError: there is none, or one that is unknown.
    """
    words = text.replace(",", " ").split()
    chosen = tuple(name for name in USER_QUERIES if name in words)
    if not words or len(chosen) < len(set(words)):
        raise ConfigError(f"what your users type: {text!r} is not among {', '.join(USER_QUERIES)}")
    return chosen


def query_types(answers: Sequence[UserQueries]) -> dict[QueryType, float]:
    """The kinds of queries that look like what users type, with their weights; all answers have the same share.

    Args:
        answers: what they type, at least one answer.
    """
    weights: dict[QueryType, float] = {}
    for answer in dict.fromkeys(answers):
        total = sum(_KINDS[answer].values())
        for kind, weight in _KINDS[answer].items():
            weights[kind] = weights.get(kind, 0.0) + (weight if len(set(answers)) == 1 else round(weight / total, 2))
    return weights
