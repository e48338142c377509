from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import DocumentsConfig
from multigrain.records import Document, Split
from multigrain.sources.chunking import chunk_document, cut_text
from multigrain.sources.load import load_corpus, prepare_corpus
from multigrain.sources.words import count_words

SENTENCES = [f"Sentence {n} tells of thing {n * 3} and of its neighbour {n * 3 + 1}." for n in range(60)]
LONG = Document("book", "\n\n".join(" ".join(SENTENCES[start : start + 5]) for start in range(0, 60, 5)), title="Book")


def chunks(document: Document, size: int = 60, unit: str = "words", overlap: float = 0.2) -> list[Document]:
    return chunk_document(document, size=size, unit=unit, overlap=overlap, min_characters=40)  # type: ignore[arg-type]


def test_a_short_document_stays_as_it_is() -> None:
    short = Document("note", "Only a few words.")

    assert chunks(short) == [short]


def test_chunks_hold_the_whole_text_in_order_overlap_and_keep_the_title() -> None:
    found = chunks(LONG)

    assert [each.id for each in found] == [f"book#{n}" for n in range(1, len(found) + 1)]
    assert {each.title for each in found} == {"Book"}
    assert all(count_words(each.text) <= 60 for each in found)
    assert all(sentence in "\n".join(each.text for each in found) for sentence in SENTENCES)
    for left, right in itertools.pairwise(found):
        assert LONG.text.index(right.text) < LONG.text.index(left.text) + len(left.text)


def test_chunks_end_with_sentences_where_they_can() -> None:
    found = chunks(LONG, overlap=0)

    assert all(each.text.endswith(".") for each in found)


def test_characters_are_the_words_of_scripts_without_spaces() -> None:
    text = "水は百度で沸騰する。" * 60

    found = chunks(Document("d", text), size=100, overlap=0)

    assert len(found) > 5
    assert "".join(each.text for each in found) == text


GAPS = st.sampled_from([" ", "  ", "\n", "\n\n", "\u3000", ". ", "! ", ", ", "水", "-"]) | st.text(max_size=3)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Numbers with anything between them: every place in such a text is one of a kind, so that chunks are found."""
    gaps = draw(st.lists(GAPS, min_size=1, max_size=20))
    return "".join(f"{number}{gaps[number % len(gaps)]}" for number in range(draw(st.integers(0, 400))))


LENGTH = {"words": count_words, "characters": len}


def spans_of(text: str, parts: list[Document]) -> list[tuple[int, int]]:
    """Where each chunk stands in the text: after the chunk ahead of it and, of several places, next to its end."""
    spans: list[tuple[int, int]] = []
    start, end = -1, 0
    for part in parts:
        start = text.find(part.text, start + 1)
        assert start >= 0, "a chunk is a part of the text as it is, and chunks are in the text's order"
        while (later := text.find(part.text, start + 1)) >= 0 and not text[end:later].strip():
            start = later
        end = start + len(part.text)
        spans.append((start, end))
    return spans


@settings(max_examples=150, deadline=None)
@given(texts(), st.integers(20, 120), st.sampled_from(["words", "characters"]), st.sampled_from([0, 0.1, 0.25, 0.5]))
def test_chunks_cover_the_text_in_order_within_their_limits(text: str, size: int, unit: str, overlap: float) -> None:
    parts = chunks(Document("d", text, title="T"), size=size, unit=unit, overlap=overlap)

    if LENGTH[unit](text) <= size:
        assert parts == [Document("d", text, title="T")]
        return
    assert [part.id for part in parts] == [f"d#{number}" for number in range(1, len(parts) + 1)]
    assert {part.title for part in parts} == {"T"}
    spans = spans_of(text, parts)
    covered = 0
    for start, end in spans:
        assert not text[covered:start].strip(), "between two chunks there is nothing but white space"
        covered = max(covered, end)
    assert not text[covered:].strip()
    joined = 40  # a last chunk that is shorter is joined to the one before
    for position, part in enumerate(parts):
        assert part.text == part.text.strip() != ""
        longest = size + (joined if position == len(parts) - 1 else 0)
        assert LENGTH[unit](part.text) <= longest
    for (_, before), (start, end) in itertools.pairwise(spans):
        assert end > before, "each chunk goes further than the one before"
        assert overlap or start >= before, "nothing is repeated where nothing shall be"
        assert LENGTH[unit](text[start:before]) <= size * overlap + 1 if start < before else True


def test_no_split_divides_a_document_and_long_documents_fall_on_every_side() -> None:
    documents = [
        Document(f"d{n}", " ".join(f"word{n}x{place}" for place in range(400 if n % 2 else 30))) for n in range(120)
    ]
    config = DocumentsConfig(path=Path("unused"), chunk_size=40, test_share=0.3, validation_share=0.2)

    corpus = prepare_corpus(documents, config, seed=1)

    sides: dict[str, set[tuple[int, Split]]] = {}
    for each in corpus.documents:
        sides.setdefault(each.id.split("#")[0], set()).add((each.group, each.split))
    assert len(sides) == 120
    assert all(len(found) == 1 for found in sides.values())
    assert corpus.counts["chunked"] == 60
    long = [next(iter(found))[1] for name, found in sides.items() if int(name[1:]) % 2]
    assert 8 <= long.count(Split.TEST) <= 30  # about 18 of 60: as many as of short ones, however many chunks they have
    assert Split.TRAIN in long


def test_a_document_keeps_its_side_when_it_is_chunked() -> None:
    documents = [Document(f"d{n}", " ".join(f"word{n}x{place}" for place in range(200))) for n in range(60)]
    whole = DocumentsConfig(path=Path("unused"))
    cut = whole.model_copy(update={"chunk_size": 50})

    before = {each.id: each.split for each in prepare_corpus(documents, whole, seed=1).documents}

    assert all(
        before[each.id.split("#")[0]] is each.split for each in prepare_corpus(documents, cut, seed=1).documents
    )


def test_a_footer_that_every_file_repeats_becomes_one_chunk(tmp_path: Path) -> None:
    footer = " ".join(f"imprint{n}" for n in range(50))
    for number in range(12):
        body = " ".join(f"page{number}word{place}" for place in range(50))
        (tmp_path / f"{number}.txt").write_text(f"{body}\n\n{footer}")

    corpus = load_corpus(DocumentsConfig(path=tmp_path, chunk_size=50, chunk_overlap=0), seed=1)

    assert sum("imprint7" in each.text for each in corpus.documents) == 1
    assert corpus.counts["repeated"] == 11


def test_chunk_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        DocumentsConfig(path=Path("x"), chunk_size=3)


@given(st.text(st.sampled_from(list("aé水।的 \n\u3000")), max_size=700).map(str.strip), st.integers(100, 400))
def test_a_text_is_cut_near_its_limit_and_at_a_space_where_one_is_near(text: str, characters: int) -> None:
    found = cut_text(text, characters)

    assert text.startswith(found)
    assert len(found) <= characters
    if len(text) <= characters:
        assert found == text
    else:
        lost = text[len(found) : characters + 1]
        near = text[characters - characters // 10 : characters + 1]
        assert found == found.strip()
        assert not lost.strip() or any(each.isspace() for each in near) == lost[0].isspace()


@given(st.integers(1, 300), st.integers(100, 30_000))
def test_however_far_back_the_last_space_is_a_text_without_them_is_cut_at_the_limit(
    title: int, characters: int
) -> None:
    text = "题" * title + "\n" + "水" * 40_000

    assert characters - 100 <= len(cut_text(text, characters)) <= characters
    assert cut_text("word " * 8_000, characters).endswith("word")
