"""How long the texts of a data set's rows are, and which they are, without loading the data set."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from functools import lru_cache

from datasets import Dataset

from multigrain.curriculum.pools import text_key

_KEPT = 200_000


class RowTexts:
    """The rows of several data sets, numbered one data set after another.

    Args:
        datasets: columns of text alone, the query first.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = datasets
        self._starts = list(itertools.accumulate((len(each) for each in datasets), initial=0))
        self._row = lru_cache(maxsize=_KEPT)(self._read)

    def length(self, index: int) -> int:
        """Characters of the row's longest text: it is what decides how wide its batch is."""
        return self._row(index)[0]

    def keys(self, index: int) -> tuple[int, ...]:
        """Keys of the row's texts; equal texts have equal keys."""
        return self._row(index)[1]

    def _read(self, index: int) -> tuple[int, tuple[int, ...]]:
        number = bisect.bisect_right(self._starts, index) - 1
        texts = [str(text) for text in self._datasets[number][index - self._starts[number]].values()]
        return max(map(len, texts)), tuple(text_key(text) for text in texts)
