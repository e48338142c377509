"""BM25, the baseline that needs no training and that every embedding model should be held against."""

from __future__ import annotations

from multigrain.mining.best import Indices
from multigrain.mining.lexical import LexicalIndex


class BM25Retriever:
    """Lucene's BM25 (k1 1.5, b 0.75) as `LexicalIndex` computes it.

    Args:
        stopwords: a language that bm25s has stop words for, or None to keep all words.
    """

    def __init__(self, stopwords: str | None = "en") -> None:
        self._stopwords = stopwords

    def rank(self, queries: list[str], documents: list[str], depth: int) -> Indices:
        """Positions of the best documents, best first; `NO_ROW` where no further one shares a word with the query.

        Args:
            queries: texts to search for.
            documents: texts to search. Equal scores go to the earlier one.
            depth: how many to find for each query.

        Returns:
            (len(queries), min(depth, len(documents))).
        """
        return LexicalIndex(documents, stopwords=self._stopwords)(queries, depth)
