"""The diversity knobs of rows that are written for tasks, after the samplers of E5-mistral and SPEED.

What is drawn and how often is theirs (query type, length, clarity, difficulty in every second row, words of a
document, the scores of similar sentences); the scores of four graded negatives are ours.
"""

from __future__ import annotations

import random
from typing import Final

from multigrain.config import TasksConfig
from multigrain.records import Task, TaskKind
from multigrain.synthesis.style import Style, draw

__all__ = ["task_style"]

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


def task_style(task: Task, index: int, config: TasksConfig, *, seed: int) -> Style:
    """How row number `index` of a task is to be written: drawn by seed, task and number alone."""
    chance = random.Random(f"{seed}:{task.id}:{index}")
    language, document_language = _languages(task, config, chance)
    difficulty = chance.choice(_DIFFICULTY) if chance.random() < _DIFFICULTY_SHARE else None
    if task.kind is TaskKind.STS:
        hard = chance.choice(_LOW_SCORES)
        return Style(
            query_type=str(task.kind),
            difficulty=difficulty,
            language=language,
            document_language=document_language,
            positive_score=chance.choice(_HIGH_SCORES),
            negative_scores=(1.0, hard - 1.0, hard - 0.5, hard),
        )
    if task.kind is TaskKind.BITEXT:
        return Style(
            query_type=str(task.kind), difficulty=difficulty, language=language, document_language=document_language
        )
    long_query = task.kind in (TaskKind.LONG_SHORT, TaskKind.LONG_LONG)
    short_query = draw(_QUERY_LENGTHS, chance)
    return Style(
        query_type=draw(_QUERY_TYPES, chance),
        query_length=draw(_LONG_QUERY_LENGTHS, chance) if long_query else short_query,
        clarity=draw(_CLARITY, chance),
        difficulty=difficulty,
        document_words=chance.choice(_DOCUMENT_WORDS) if task.kind.endswith("-long") else None,
        language=language,
        document_language=document_language,
    )


def _languages(task: Task, config: TasksConfig, chance: random.Random) -> tuple[str, str]:
    """Of the query and of the passages: one and the same, but for translations."""
    language = draw(config.languages, chance)
    if task.kind is not TaskKind.BITEXT:
        return language, language
    others = {name: weight for name, weight in config.languages.items() if name != language and weight > 0}
    return language, draw(others, chance)
