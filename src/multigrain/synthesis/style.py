"""How a row is to be written: the knobs that keep a thousand rows from sounding alike."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Style", "draw", "draw_order"]

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Style:
    """What is asked of one row, besides what it is about. Templates see these names; None leaves it to the model.

    Attributes:
        query_type: for a document, the kind of query ("search", "question", …); for a task, how common the
            query is ("long-tail", …).
        query_length: in words, as prompts say it: "5 to 15 words".
        clarity: of the query.
        difficulty: the education it takes to understand the positive.
        document_words: about how long the positive is.
        language: of the query; None: the document's own.
        document_language: of the positive and the negatives; None: the query's, or the document's own.
        positive_score: semantic similarity of the positive, 1-5, for tasks of that kind.
        negative_scores: the same for the negatives of level 1 to 4; rising.
    """

    query_type: str = "search"
    query_length: str | None = None
    clarity: str | None = None
    difficulty: str | None = None
    document_words: int | None = None
    language: str | None = None
    document_language: str | None = None
    positive_score: float | None = None
    negative_scores: tuple[float, float, float, float] | None = None


def draw(weights: Mapping[Choice, float], random_number: random.Random) -> Choice:
    """One of the choices, by weight."""
    return random_number.choices(list(weights), weights=list(weights.values()))[0]


def draw_order(weights: Mapping[Choice, float], random_number: random.Random) -> list[Choice]:
    """All choices of weight above 0, heavier ones likely first: what several rows of one document take in turn."""
    left = {choice: weight for choice, weight in weights.items() if weight > 0}
    order = []
    while left:
        order.append(draw(left, random_number))
        del left[order[-1]]
    return order
