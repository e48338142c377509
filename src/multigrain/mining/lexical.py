"""Rank a corpus by words: BM25, indexed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multigrain.mining.best import NO_ROW, Indices
from multigrain.sources.terms import search_terms, stop_words_of


class LexicalIndex:
    """Lucene's BM25 by bm25s, over the words of `search_terms`.

    The index holds one float and one integer for each different word of each text: about the size of the texts.

    Args:
        texts: the corpus; its language decides which words are left out, see `stop_words_of`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._stop_words = stop_words_of(texts)
        self._rows = len(texts)
        words = self._words(texts)
        self._index = bm25s.BM25() if any(words) else None  # bm25s cannot index a corpus without a single word
        if self._index is not None:
            self._index.index(words, show_progress=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the index's numbers, without its words."""
        if self._index is None:
            return 0
        return sum(int(self._index.scores[part].nbytes) for part in ("data", "indices", "indptr"))

    def __call__(self, queries: Sequence[str], depth: int) -> Indices:
        """Corpus rows by score, best first: (n, min(depth, rows)); `NO_ROW` where no more share a word.

        Equal scores go to the earlier row.
        """
        depth = min(depth, self._rows)
        ranking = np.full((len(queries), depth), NO_ROW, dtype=np.int64)
        if self._index is None:
            return ranking
        for number, words in enumerate(self._words(queries)):
            indexed = [word for word in words if word in self._index.vocab_dict]
            if not indexed:
                continue
            scores = np.asarray(self._index.get_scores(indexed), dtype=np.float32)
            # Every row as good as the last that fits: of equal ones the partition may take any.
            lowest = np.partition(scores, self._rows - depth)[self._rows - depth] if depth else np.inf
            best = np.flatnonzero((scores >= lowest) & (scores > 0))
            best = best[np.argsort(-scores[best], kind="stable")][:depth]
            ranking[number, : len(best)] = best
        return ranking

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        seen: dict[str, str] = {}  # a word that stands a thousand times is one text in memory
        return [[seen.setdefault(word, word) for word in search_terms(text, self._stop_words)] for text in texts]
