"""Graded rows of real text for benchmarks of training, where what the negatives teach does not matter."""

from __future__ import annotations

import random

from multigrain.records import LEVELS, GradedExample, Negative, Origin
from multigrain.sources.docstrings import read_docstrings

__all__ = ["graded_docstrings"]


def graded_docstrings(rows: int, *, seed: int) -> list[GradedExample]:
    """Summary line and rest of docstrings of installed packages, with four other texts as negatives.

    Args:
        rows: how many, drawn by the seed.
        seed: of rows and negatives.
    """
    documents = [each for each in read_docstrings() if each.title]
    draw = random.Random(seed)
    draw.shuffle(documents)
    kept, others = documents[:rows], documents[rows:] or documents
    return [
        GradedExample(
            id=each.id,
            document_id=each.id,
            query=each.title or "",
            positive=each.text,
            negatives=tuple(  # type: ignore[arg-type]
                Negative(other.text, level, Origin.MINED, 0.0)
                for level, other in zip(LEVELS, draw.sample(others, len(LEVELS)), strict=True)
            ),
            positive_similarity=1.0,
        )
        for each in kept
    ]
