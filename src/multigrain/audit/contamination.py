"""Rows that an evaluation set holds too: by shared word n-grams, and by similarity of the queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from multigrain.audit.check import Problem
from multigrain.config import DecontaminationConfig
from multigrain.mining.search import Floats, top_k
from multigrain.sources.grouping import word_ngrams

__all__ = ["Contamination", "EvaluationTexts"]

_ROUNDING = 1e-5  # equal texts come out a little above 1


@dataclass(frozen=True)
class EvaluationTexts:
    """What training must not have seen of one evaluation set.

    Attributes:
        name: what reasons call the set.
        queries: its queries.
        passages: its relevant passages; empty where they are not looked for.
    """

    name: str
    queries: tuple[str, ...]
    passages: tuple[str, ...] = ()


class Contamination:
    """Finds rows that are in evaluation sets.

    Args:
        sets: the sets.
        config: how much overlap is too much.
        vectors: (number of queries of all sets, d) their reference vectors, in order.
    """

    def __init__(self, sets: Sequence[EvaluationTexts], config: DecontaminationConfig, vectors: Floats) -> None:
        self._config = config
        self._vectors = vectors
        self._names = [each.name for each in sets for _ in each.queries]
        self._texts = [text for each in sets for text in each.queries]
        self._queries = self._index((each.name, each.queries) for each in sets)
        self._passages = self._index((each.name, each.passages) for each in sets)

    def check(self, queries: Sequence[str], positives: Sequence[str], vectors: Floats) -> list[Problem | None]:
        """For each row what is wrong with it, or None.

        Args:
            queries: the rows' queries.
            positives: their positives.
            vectors: (n, d) the queries' reference vectors.
        """
        problems = [
            self._overlap(query, self._queries, "query") or self._overlap(positive, self._passages, "positive")
            for query, positive in zip(queries, positives, strict=True)
        ]
        if len(self._vectors) and len(vectors):
            similarities, nearest = top_k(vectors, self._vectors, 1)
            for row in np.flatnonzero(similarities[:, 0] > self._config.max_similarity + _ROUNDING):
                near = int(nearest[row, 0])
                detail = f"similarity {similarities[row, 0]:.2f} to {self._names[near]}: {self._texts[near][:80]}"
                problems[row] = problems[row] or Problem("contaminated", detail)
        return problems

    def _index(self, sets: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, texts in sets:
            for text in texts:
                for gram in word_ngrams(text, self._config.ngram):
                    found.setdefault(gram, name)
        found.pop("", None)
        return found

    def _overlap(self, text: str, known: dict[str, str], what: str) -> Problem | None:
        if not known:
            return None
        grams = word_ngrams(text, self._config.ngram)
        shared = [known[gram] for gram in grams if gram in known]
        if len(shared) <= self._config.max_overlap * len(grams) and len(shared) < len(grams):
            return None
        return Problem("contaminated", f"its {what} stands in {shared[0]} ({len(shared)} of {len(grams)} n-grams)")
