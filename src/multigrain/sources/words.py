"""The words of texts, and the forms in which texts are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, groupby
from typing import Final


def _combining_marks() -> str:
    """Unicode's combining marks (Mn, Mc) as ranges of a pattern: they begin at U+0300 and lie in two blocks."""
    codes = chain(range(0x300, 0x20000), range(0xE0100, 0xE01F0))
    runs = groupby(codes, key=lambda code: unicodedata.category(chr(code)) in ("Mn", "Mc"))
    ranges = [list(run) for are_marks, run in runs if are_marks]
    return "".join(f"{chr(codes[0])}-{chr(codes[-1])}" for codes in ranges)


# Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese): each character is a word.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKS: Final = _combining_marks()
_UNSPACED_WORD: Final = re.compile(f"[{_UNSPACED}]")
# Vowel signs and other marks go on with a word, though \w leaves them out: without them, किताब would be three words.
_WORD: Final = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\W{_UNSPACED}]+(?:[{_MARKS}]+[^\W{_UNSPACED}]*)*")
# Most texts hold nothing of all that, and are divided several times faster without looking for it.
_PLAIN_WORD: Final = re.compile(r"\w+")
_NOT_PLAIN: Final = re.compile("[^\u0000-\u02ff\u2000-\u20cf]")
# Marks that change what a text says: those of C++ and C#, of sums and comparisons, a minus before a number. Bullets,
# headings, rules, hyphens and all other punctuation do not. It begins with a class of characters, so that texts are
# looked through quickly.
_SIGN: Final = re.compile(
    r"[-+<>=%&@^$#*/\u00b1\u00d7\u00f7\u2192\u2212\u2248\u2260\u2264\u2265](?:"
    r"(?<=[<%&@^$\u00b1\u00d7\u00f7\u2192\u2212\u2248\u2260\u2264\u2265])"
    r"|(?<=[+>])(?<=[^\n].)"  # at the beginning of a line a bullet, a quotation
    r"|(?<==)(?:(?<=[^\n=]=)|(?<=[^\n=]==))"  # more of them underline
    r"|(?<=#)(?:(?<=\w#)|(?=\d))"
    r"|(?<=[*/])(?:(?<=\w .)(?= \w)|(?<=\w.)(?=\w))"
    r"|(?<=-)(?:(?<!\w-)(?=\d)|(?<=\w-)-)"
    r")"
)
_WORD_OR_SIGN: Final = re.compile(f"{_WORD.pattern}|{_SIGN.pattern}")
# Soft hyphens, word joiners and byte order marks show nothing within a word.
_NOT_SHOWN: Final = ("\u00ad", "\u2060", "\ufeff")
# A space of no width divides words in scripts without spaces; in others it says where a long word may be broken.
_NO_WIDTH: Final = "\u200b"
_SPACED: Final = "\u0000-\u058f\u1e00-\u1fff"  # Latin, Greek, Cyrillic, Armenian
_BREAK_IN_WORD: Final = re.compile(f"(?<=[{_SPACED}]){_NO_WIDTH}+(?=[{_SPACED}])")
_ASCII_WORDS: Final = "".join(chr(code) if chr(code).isalnum() or chr(code) == "_" else " " for code in range(128))


def fold_text(text: str) -> str:
    """The text in Unicode NFKC, case-folded, with single spaces: what two texts must share to ask the same.

    Punctuation stays: "C", "C++" and "C#" ask three things.
    """
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", _whole_words(text)).casefold()
    return " ".join(folded.split())


def fold_words(text: str) -> str:
    """The text's case-folded words with single spaces, to look for words in it."""
    return " ".join(folded_words(text))


def fold_repeated(text: str) -> str:
    """The text's case-folded words and signs with single spaces: what two texts must share to count as repeated.

    Punctuation is left out: a document that differs from another by it alone holds nothing new. Signs are not: "C",
    "C++" and "C#" are three things, and so are "a < b" and "a > b".
    """
    text = _whole_words(text)
    if _SIGN.search(text) is None:
        return fold_words(text)
    return " ".join(_WORD_OR_SIGN.findall(text.casefold()))


def folded_words(text: str) -> list[str]:
    """The text's case-folded words, in order."""
    if text.isascii():
        return text.lower().translate(_ASCII_WORDS).split()
    folded = _whole_words(text).casefold()
    words: list[str] = (_WORD if _NOT_PLAIN.search(folded) else _PLAIN_WORD).findall(folded)
    return words


def _whole_words(text: str) -> str:
    """The text without characters that show nothing and would divide words."""
    for character in _NOT_SHOWN:
        if character in text:
            text = text.replace(character, "")
    return _BREAK_IN_WORD.sub("", text) if _NO_WIDTH in text else text


def is_unspaced(word: str) -> bool:
    """Whether a word is one character of a script that puts no spaces between words."""
    return _UNSPACED_WORD.match(word) is not None


def count_words(text: str) -> int:
    """How many words a text has; in scripts without spaces each character is one, with its marks."""
    return sum(1 for _ in _WORD.finditer(_whole_words(text)))


def word_ngrams(text: str, n: int = 3) -> set[str]:
    """The text's distinct word n-grams; a text of fewer than n words is one n-gram."""
    return set(ngrams_of(folded_words(text), n))


def ngrams_of(words: Sequence[str], n: int = 3) -> list[str]:
    """The n-grams of some words, in order; fewer than n words are one n-gram."""
    if len(words) <= n:
        return [" ".join(words)]
    return list(map(" ".join, zip(*(words[start:] for start in range(n)), strict=False)))
