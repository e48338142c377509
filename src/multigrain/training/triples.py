"""Graded rows as the triples that the trainer reads."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

from multigrain.records import LEVELS, GradedExample

__all__ = ["pairs", "triples"]


def triples(examples: Sequence[GradedExample]) -> Dataset:
    """The long form: (query, positive, negative), all rows at level 1, then all at level 2, and so on.

    The columns are those that sentence-transformers' losses expect, in their order.
    """
    return Dataset.from_dict(
        {
            "query": [example.query for _ in LEVELS for example in examples],
            "positive": [example.positive for _ in LEVELS for example in examples],
            "negative": [example.negatives[level - 1].text for level in LEVELS for example in examples],
        }
    )


def pairs(examples: Sequence[GradedExample]) -> Dataset:
    """(query, positive) alone, for training on in-batch negatives."""
    return Dataset.from_dict(
        {
            "query": [example.query for example in examples],
            "positive": [example.positive for example in examples],
        }
    )
