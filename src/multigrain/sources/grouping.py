"""Near-duplicates found by MinHash over word trigrams, so that no split divides them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from multigrain.records import Document

__all__ = ["count_words", "near_duplicate_groups", "normalise", "word_ngrams"]

# Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese): each character is a word.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_PERMUTATIONS: Final = 128
_SEED: Final = 7  # of the hash family; it decides nothing but which hash functions are drawn


def normalise(text: str) -> str:
    """Case-folded words with single spaces: what two texts must share to count as the same."""
    return " ".join(_WORD.findall(text.casefold()))


def count_words(text: str) -> int:
    """How many words a text has; in scripts without spaces each character is one."""
    return sum(1 for _ in _WORD.finditer(text))


def word_ngrams(text: str, n: int = 3) -> set[str]:
    """The text's distinct word n-grams; a text of fewer than n words is one n-gram."""
    words = _WORD.findall(text.casefold())
    if len(words) <= n:
        return {" ".join(words)}
    return {" ".join(words[start : start + n]) for start in range(len(words) - n + 1)}


def near_duplicate_groups(
    documents: Sequence[Document], similarity: float, *, together: Iterable[tuple[int, int]] = ()
) -> list[int]:
    """Group documents whose word trigrams overlap, transitively.

    Args:
        documents: the documents.
        similarity: Jaccard overlap from which two documents are near-duplicates, 0-1.
        together: places of documents that belong to one group whatever their words: two and two.

    Returns:
        For each document the index of the first document of its group.
    """
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=similarity, num_perm=_PERMUTATIONS, num_bands=32)
    parents = list(range(len(documents)))
    hashes: list[RMinHash] = []
    for position, document in enumerate(documents):
        minhash = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        minhash.update(sorted(word_ngrams(document.text)))
        for other in index.query(minhash):
            if minhash.jaccard(hashes[other]) >= similarity:
                _join(parents, position, other)
        index.insert(position, minhash)
        hashes.append(minhash)
    for left, right in together:
        _join(parents, left, right)
    return [_root(parents, position) for position in range(len(documents))]


def _root(parents: list[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position


def _join(parents: list[int], left: int, right: int) -> None:
    low, high = sorted((_root(parents, left), _root(parents, right)))
    parents[high] = low
