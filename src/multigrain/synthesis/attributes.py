"""The attributes of rows, which keep a thousand of them from sounding alike.

For tasks they are drawn after the samplers of E5-mistral and SPEED. What is drawn and how often is theirs (query type,
length, clarity, difficulty in every second row, words of a document, the scores of similar sentences); the scores of
four graded negatives are ours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from multigrain.config import TasksConfig
from multigrain.records import Task, TaskKind

Choice = TypeVar("Choice")

_QUERY_TYPES: Final = {"extremely long-tail": 0.4, "long-tail": 0.5, "common": 0.1}
_QUERY_LENGTHS: Final = {"less than 5 words": 0.4, "5 to 15 words": 0.4, "at least 10 words": 0.2}
_LONG_QUERY_LENGTHS: Final = {
    "at least 20 words": 0.3,
    "at least 50 words": 0.3,
    "at least 100 words": 0.2,
    "at least 200 words": 0.2,
}
_CLARITY: Final = {"clear": 0.6, "understandable with some effort": 0.2, "ambiguous": 0.2}
_DIFFICULTY: Final = ("high school", "college", "PhD")
_DIFFICULTY_SHARE: Final = 0.5
_DOCUMENT_WORDS: Final = (50, 100, 200, 300, 400, 500)
_HIGH_SCORES: Final = (4.0, 4.5, 5.0)
_LOW_SCORES: Final = (2.5, 3.0, 3.5)


@dataclass(frozen=True, slots=True)
class Attributes:
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
    remaining = {choice: weight for choice, weight in weights.items() if weight > 0}
    order = []
    while remaining:
        order.append(draw(remaining, random_number))
        del remaining[order[-1]]
    return order


def task_attributes(task: Task, index: int, config: TasksConfig, *, seed: int) -> Attributes:
    """How row number `index` of a task is to be written: drawn by seed, task and number alone."""
    chance = random.Random(f"{seed}:{task.id}:{index}")
    language, document_language = _languages(task, config, chance)
    difficulty = chance.choice(_DIFFICULTY) if chance.random() < _DIFFICULTY_SHARE else None
    common = Attributes(str(task.kind), difficulty=difficulty, language=language, document_language=document_language)
    if task.kind is TaskKind.STS:
        hard = chance.choice(_LOW_SCORES)
        scores = (1.0, hard - 1.0, hard - 0.5, hard)
        return replace(common, positive_score=chance.choice(_HIGH_SCORES), negative_scores=scores)
    if task.kind is TaskKind.BITEXT:
        return common
    long_query = task.kind in (TaskKind.LONG_SHORT, TaskKind.LONG_LONG)
    short_query = draw(_QUERY_LENGTHS, chance)
    return replace(
        common,
        query_type=draw(_QUERY_TYPES, chance),
        query_length=draw(_LONG_QUERY_LENGTHS, chance) if long_query else short_query,
        clarity=draw(_CLARITY, chance),
        document_words=chance.choice(_DOCUMENT_WORDS) if task.kind.endswith("-long") else None,
    )


def _languages(task: Task, config: TasksConfig, chance: random.Random) -> tuple[str, str]:
    """Of the query and of the passages: one and the same, but for translations."""
    language = draw(config.languages, chance)
    if task.kind is not TaskKind.BITEXT:
        return language, language
    others = {name: weight for name, weight in config.languages.items() if name != language and weight > 0}
    return language, draw(others, chance)
