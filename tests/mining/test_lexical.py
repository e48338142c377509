"""BM25 finds texts by their words in every script."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.mining.lexical import LexicalIndex
from multigrain.records import Document
from multigrain.sources.terms import search_terms, stop_words_of
from multigrain.sources.words import folded_words
from multigrain.synthesis.partners import Partners

# Three texts of each language, and what somebody types who looks for the first, the second and the third.
CORPORA = {
    "Japanese": (
        [
            "ラジエーターの上が冷たいときは、弁を開けて空気を抜きます。",
            "パスポートの申請には写真が二枚必要です。",
            "川は山から海へ流れ、途中で谷を削ります。",
        ],
        ["ラジエーターが冷たい", "パスポートの写真は何枚", "谷を削る川"],
    ),
    "Chinese": (
        [
            "暖气片上部不热时，请打开阀门排出空气。",
            "申请护照需要两张照片和身份证。",
            "河流从山上流向大海，沿途切割山谷。",
        ],
        ["暖气片为什么不热", "办护照要几张照片", "山谷是怎么被河流切割的"],
    ),
    "Thai": (
        ["น้ำเดือดที่อุณหภูมิหนึ่งร้อยองศาเซลเซียส", "การทำหนังสือเดินทางต้องใช้รูปถ่ายสองใบ", "แม่น้ำไหลจากภูเขาลงสู่ทะเล"],
        ["อุณหภูมิน้ำเดือด", "รูปถ่ายหนังสือเดินทาง", "แม่น้ำไหลลงทะเล"],
    ),
    "Hindi": (
        ["पानी सौ डिग्री सेल्सियस पर उबलता है।", "पासपोर्ट के लिए दो तस्वीरें चाहिए।", "नदी पहाड़ से समुद्र की ओर बहती है।"],
        ["पानी कब उबलता है", "पासपोर्ट की तस्वीरें", "नदी और समुद्र"],
    ),
    "German": (
        [
            "Was an der Pumpe leckt, ist die Dichtung.",
            "Der Heizkörper bleibt oben kalt.",
            "Will man reisen, braucht man einen Pass.",
        ],
        ["was leckt an", "Heizkörper oben kalt", "reisen will man"],
    ),
    "one letter": (
        ["The language C is compiled.", "The language R is for statistics.", "Vitamin D is made by sunlight."],
        ["C", "R language", "vitamin D"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", CORPORA)
def test_each_query_finds_its_text_in_every_script(language: str) -> None:
    texts, queries = CORPORA[language]

    np.testing.assert_array_equal(LexicalIndex(texts)(queries, 1), [[0], [1], [2]])


@pytest.mark.parametrize("language", CORPORA)
def test_partners_go_by_the_same_words(language: str) -> None:
    texts, queries = CORPORA[language]
    documents = [Document(str(place), text) for place, text in enumerate([*texts, queries[2]])]

    assert Partners(documents).of(3) == documents[2]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("C vs R", ["c", "vs", "r"]),
        ("it's John's, don't you?", ["john", "don", "you"]),
        ("l’eau d'une source", ["eau", "une", "source"]),
        ("How do I open C's headers in 5 steps?", ["how", "do", "open", "c", "headers", "5", "steps"]),
        ("किताब मेज़ पर है", ["किताब", "मेज़", "पर", "है"]),
        ("Die Wind\u00adenergie\u00adanlage", ["die", "windenergieanlage"]),
        ("水沸腾", ["水", "沸", "腾", "水沸", "沸腾"]),
        ("ＡＢＣと東京", ["abc", "と", "東", "京", "と東", "東京"]),
    ],
)
def test_words_of_a_text(text: str, terms: list[str]) -> None:
    assert search_terms(text, stop_words_of([text] if text.isascii() else [])) == terms


def test_english_words_are_left_out_of_english_texts_alone() -> None:
    english = ["The quick brown fox jumps over the lazy dog near the river.", "It was an ordinary day in the village."]
    german = ["Was an der Pumpe leckt, ist meistens die alte Dichtung.", "Der Heizkörper bleibt oben immer noch kalt."]

    assert "was" in stop_words_of(english)
    assert "was" in stop_words_of([*english, *german])
    assert not stop_words_of(german)
    assert "the" in stop_words_of(["x1", "B-7", "??"])


@given(st.text(st.characters(exclude_characters="'’"), max_size=60))
def test_no_word_of_a_text_is_lost(text: str) -> None:
    terms = search_terms(text)

    assert bool(terms) == bool(folded_words(unicodedata.normalize("NFKC", text)))
    if text.isascii():
        assert terms == folded_words(text)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8))
def test_a_text_that_has_words_is_found_by_itself(texts: list[str]) -> None:
    ranked = LexicalIndex(texts)(texts, len(texts))

    stop_words = stop_words_of(texts)
    for place, text in enumerate(texts):
        assert (place in ranked[place]) == bool(search_terms(text, stop_words))
