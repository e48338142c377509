"""What counts as a word, in scripts of every kind."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.sources.words import (
    _WORD,
    count_words,
    fold_repeated,
    fold_text,
    fold_words,
    folded_words,
    word_ngrams,
)

_BASES = "कखतरअকতகதకతكتبשלמaé"
_MARKS = [
    chr(code) for code in (*range(0x300, 0x20000), 0xE0100, 0xE01EF) if unicodedata.category(chr(code)) in ("Mn", "Mc")
]
_SYLLABLES = st.builds(str.__add__, st.sampled_from(_BASES), st.text(st.sampled_from(_MARKS), max_size=3))
_WORDS = st.lists(_SYLLABLES, min_size=1, max_size=5).map("".join)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("कैसे पता करें कि फ़ाइल खाली है", 7),
        ("செய்தி அனுப்புவது எப்படி", 3),
        ("كَيْفَ أَقْرَأُ الكِتَابَ", 3),
        ("how it's done: 3.5", 6),
        ("ที่นี่", 2),
        ("水は百度で", 5),
        ("\N{COMBINING ACUTE ACCENT} ❤️ …", 0),
    ],
)
def test_words_are_counted_as_their_readers_count_them(text: str, words: int) -> None:
    assert count_words(text) == words


@given(st.lists(_WORDS, max_size=8))
def test_marks_never_divide_a_word(words: list[str]) -> None:
    assert count_words(" ".join(words)) == len(words)


@given(st.lists(_WORDS, max_size=6), st.lists(_WORDS, max_size=6))
def test_texts_that_differ_in_a_mark_are_different(left: list[str], right: list[str]) -> None:
    same = [word.casefold() for word in left] == [word.casefold() for word in right]

    assert (fold_words(" ".join(left)) == fold_words("; ".join(right))) is same


@pytest.mark.parametrize(
    "texts",
    [
        ("sort a list in C", "sort a list in C++", "sort a list in C#"),
        ("i++", "i--", "i"),
        ("a == b", "a != b", "a < b", "a > b", "a <= b"),
        ("x + y", "x - y", "x * y", "x / y"),
        ("at -5 degrees", "at +5 degrees", "at 5 degrees"),
        ("5 %", "5 $", "5"),
        ("2 \u2264 x", "2 \u2265 x"),
    ],
)
def test_texts_that_differ_by_a_sign_are_not_repeated(texts: tuple[str, ...]) -> None:
    assert len({fold_repeated(text) for text in texts}) == len(texts)
    assert len({fold_repeated(f"\u00e9t\u00e9: {text}!") for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("# Heading\n\n* first\n* second", "Heading\n- first\n- second."),
        ("Heading\n=======\n\n+ first\n> quoted", "Heading\n\n- first\nquoted"),
        ("foo - bar | #tag", "foo: bar, tag"),
        ("Who may open it?", "who may open it"),
        ("an e-mail \u2014 short", "An e mail; (short)"),
        ("\u300c\u6c34\u300d\u3068\u6c34\u3002", "\u6c34\u3068\u6c34"),
    ],
)
def test_texts_that_differ_by_punctuation_alone_are_repeated(one: str, other: str) -> None:
    assert fold_repeated(one) == fold_repeated(other)


@given(st.text(max_size=200) | st.text(st.sampled_from("aB9_ +-*/#<=.\u00e9\u6c34"), max_size=40))
def test_words_are_those_of_both_forms(text: str) -> None:
    kept = [part for part in fold_repeated(text).split() if folded_words(part)]
    assert kept == folded_words(text)


@given(st.text(max_size=200))
def test_nothing_but_words_and_single_spaces_is_left(text: str) -> None:
    found = fold_words(text)

    assert found == " ".join(found.split(" "))
    assert found.split() == [word for word in found.split(" ") if word]
    assert {word for gram in word_ngrams(text) for word in gram.split()} == set(found.split())


_SHOWN = st.characters(exclude_characters="\u00ad\u200b\u2060\ufeff")


@given(
    st.text(_SHOWN, max_size=200) | st.text(st.sampled_from("aB9_ é„“–—'ßİſＫ水ก\u0301\u20dd\x1c\u2028"), max_size=40)
)
def test_texts_without_marks_are_divided_faster_and_not_otherwise(text: str) -> None:
    assert folded_words(text) == _WORD.findall(text.casefold())


@given(st.text(st.sampled_from("aB é–水กह्ल-.+\u200d"), max_size=30), st.lists(st.integers(0, 30)))
def test_characters_that_show_nothing_divide_no_word(text: str, places: list[int]) -> None:
    hidden = text
    for number, place in enumerate(places):
        hidden = hidden[:place] + "\u00ad\u2060\ufeff"[number % 3] + hidden[place:]

    for fold in (folded_words, fold_text, fold_words, fold_repeated, count_words):
        assert fold(hidden) == fold(text)


def test_a_space_of_no_width_divides_words_of_scripts_without_spaces_alone() -> None:
    assert folded_words("max_\u200bseq\u200b\u200b_length, nghi\u1ec7\u200bp") == ["max_seq_length", "nghi\u1ec7p"]
    javanese = "\ua9a0\ua9a1\u200b\ua9a2"
    assert folded_words(javanese) == ["\ua9a0\ua9a1", "\ua9a2"]
    assert folded_words("\u0645\u06cc\u200c\u062e\u0648\u0627") == ["\u0645\u06cc", "\u062e\u0648\u0627"]
