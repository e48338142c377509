"""BM25, the baseline that needs no training and that every embedding model should be held against."""

from __future__ import annotations

import bm25s
import numpy as np
from numpy.typing import NDArray

from multigrain.evaluation.nearest import BestSoFar

__all__ = ["BM25Retriever"]


class BM25Retriever:
    """Lucene's BM25 by bm25s (k1 1.5, b 0.75): lower-cased words, no stemming.

    Args:
        stopwords: a language that bm25s has stop words for, or None to keep all words.
    """

    def __init__(self, stopwords: str | None = "en") -> None:
        self._stopwords = stopwords

    def rank(self, queries: list[str], documents: list[str], depth: int) -> NDArray[np.int64]:
        """Positions of the best documents, best first; -1 where no further document shares a word with the query.

        Args:
            queries: texts to search for.
            documents: texts to search. Equal scores go to the earlier one.
            depth: how many to find for each query.

        Returns:
            (len(queries), min(depth, len(documents))).
        """
        best = BestSoFar(len(queries), min(depth, len(documents)))
        words = self._words(documents)
        if not any(words):  # bm25s cannot index a corpus without a single word
            return best.positions()
        index = bm25s.BM25()
        index.index(words, show_progress=False)
        for row, query in enumerate(self._words(queries)):
            known = [word for word in query if word in index.vocab_dict]
            if known:
                scores = np.asarray(index.get_scores(known), dtype=np.float32)
                best.add(slice(row, row + 1), 0, np.where(scores > 0, scores, -np.inf)[None, :].astype(np.float32))
        return best.positions()

    def _words(self, texts: list[str]) -> list[list[str]]:
        return list(bm25s.tokenize(texts, stopwords=self._stopwords or [], return_ids=False, show_progress=False))
