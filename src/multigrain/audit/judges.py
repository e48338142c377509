"""Second opinions on false negatives, by whoever reads query and passage side by side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from multigrain.audit.check import Problem

__all__ = ["CrossEncoderOpinion", "PairScores", "SecondOpinion", "pair_key"]

PairScores = Callable[[list[tuple[str, str]]], Sequence[float]]
"""Scores (query, passage) pairs from 0 to 1: how well the passage answers."""


def pair_key(query: str, passage: str) -> bytes:
    """Stands for a pair wherever it is remembered: 16 bytes, however long the texts are."""
    digest = hashlib.blake2b(f"{len(query)}:".encode(), digest_size=16)
    digest.update((query + passage).encode("utf-8", "surrogatepass"))
    return digest.digest()


class SecondOpinion(Protocol):
    """Says which positives are none, and which negatives may be positives."""

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """For each (query, positive) what is wrong, or None."""
        ...

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """For each (query, positive, negative) what is wrong with the negative, or None."""
        ...


class CrossEncoderOpinion:
    """A negative must score lower than its positive by a margin.

    Args:
        scores: the cross-encoder.
        margin: on its scale from 0 to 1.
    """

    def __init__(self, scores: PairScores, margin: float) -> None:
        self._scores = scores
        self._margin = margin
        self._known: dict[bytes, float] = {}

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Nothing: a positive is only what negatives are compared with."""
        return [None] * len(pairs)

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """Turn away what scores above its positive less the margin."""
        self._learn(pair for query, positive, text in claims for pair in ((query, positive), (query, text)))
        problems: list[Problem | None] = []
        for query, positive, text in claims:
            right, score = self._known[pair_key(query, positive)], self._known[pair_key(query, text)]
            # A score that is no number says nothing in the negative's favour.
            close = not score <= right - self._margin
            detail = f"the cross-encoder scores it {score:.2f}, its positive {right:.2f}"
            problems.append(Problem("false_negative", detail) if close else None)
        return problems

    def _learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair_key(*pair) not in self._known]
        if new:
            for pair, score in zip(new, self._scores(new), strict=True):
                self._known[pair_key(*pair)] = float(score) if math.isfinite(score) else math.nan
