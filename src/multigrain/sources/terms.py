"""The words by which texts are searched: those of BM25, and which of them are left out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from multigrain.sources.language import main_language
from multigrain.sources.words import folded_words, is_unspaced

# What an apostrophe ties to a word is an ending (it's, don't) or an elision (l'eau), and no word of its own.
_TIED: Final = re.compile(r"(?<=\w)['’][^\W\d_]\b|\b[^\W\d_]['’](?=\w\w)")
_APOSTROPHES: Final = ("'", "’")
# Lucene's and "i", of which a tokeniser that wants two letters knows nothing.
_ENGLISH: Final = (
    "a an and are as at be but by for i if in into is it no not of on or such that the their then there these they "
    "this to was will with"
)
_LOOKED_AT: Final = 64
_BEGINNING: Final = 300  # characters


def search_terms(text: str, stop_words: frozenset[str] = frozenset()) -> list[str]:
    """The words that a text is found by, in NFKC and case-folded, without stemming.

    Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) give each character, with
    its marks, and each two that follow one another.

    Args:
        text: the text.
        stop_words: words that are left out; see `stop_words_of`.
    """
    if any(mark in text for mark in _APOSTROPHES):
        text = _TIED.sub(" ", text)
    if text.isascii():
        return [word for word in folded_words(text) if word not in stop_words]
    words = folded_words(unicodedata.normalize("NFKC", text))
    unspaced = [is_unspaced(word) for word in words]
    pairs = [
        one + other
        for (one, first), (other, second) in pairwise(zip(words, unspaced, strict=True))
        if first and second
    ]
    return [word for word in words if word not in stop_words] + pairs


def stop_words_of(texts: Sequence[str]) -> frozenset[str]:
    """The words of a corpus that are not searched for: English ones, unless more of its texts are in other languages.

    Other languages have none: BM25 gives frequent words little weight, and "was", "will" and "an" are German words.

    Args:
        texts: the corpus; a few dozen, evenly spread, are looked at.
    """
    step = max(len(texts) // _LOOKED_AT, 1)
    seen = Counter(main_language(texts[place][:_BEGINNING]) for place in range(0, len(texts), step))
    others = sum(count for language, count in seen.items() if language not in ("en", None))
    return frozenset(_ENGLISH.split()) if others <= seen["en"] else frozenset()
