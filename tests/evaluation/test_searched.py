"""Corpora that are larger than memory: the same rankings from texts by place and vectors on the disk."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.audit import duplicates
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.models import ModelSpec
from multigrain.evaluation import retrieval, rivals
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, from_documents, sample
from multigrain.evaluation.sets.searched import SearchedDocuments, sampled_texts, texts_fingerprint
from multigrain.evaluation.settings import CompareSettings, SizeSettings
from multigrain.evaluation.vector_sizes import measure_sizes
from multigrain.records import Document, Split
from multigrain.storage.sequences import TextTable

WORDS = ("cat", "owl", "bee", "river", "clock", "road", "ship", "song", "tree", "wind")


def _set(documents: int = 60, *, on_disk: bool) -> EvaluationSet:
    chance = random.Random(3)
    texts = {f"d{number}": " ".join(chance.choices(WORDS, k=9)) + f" {number}" for number in range(documents)}
    asked = chance.sample(sorted(texts), 20)
    queries = {f"q{key}": " ".join(texts[key].split()[:4]) for key in asked}
    corpus = TextTable(texts.items()) if on_disk else texts
    return EvaluationSet("own", "test", "made", corpus, queries, {f"q{key}": {key: 1} for key in asked})


def test_vectors_on_the_disk_rank_as_those_in_memory_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word_hash: object
) -> None:
    small = evaluate_retrieval(word_hash, _set(on_disk=False))
    monkeypatch.setattr(retrieval, "IN_MEMORY", 50)
    encoder = CachedEncoder(word_hash, "words")

    large = evaluate_retrieval(encoder, _set(on_disk=True), shards=tmp_path)

    assert large == small
    assert list(tmp_path.glob("*/shard-*.npy"))
    word_hash.seen.clear()
    again = evaluate_retrieval(encoder, _set(on_disk=True), shards=tmp_path)
    assert (again, word_hash.seen) == (small, [])


def test_sizes_are_tried_on_the_vectors_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word_hash: object
) -> None:
    arguments = (SizeSettings(None, ("int8",)), CompareSettings(samples=200))
    small = measure_sizes(word_hash, _set(on_disk=False), *arguments, model="m")
    monkeypatch.setattr(retrieval, "IN_MEMORY", 50)

    assert measure_sizes(word_hash, _set(on_disk=True), *arguments, model="m", shards=tmp_path) == small
    monkeypatch.setattr("multigrain.evaluation.vector_sizes._MOST_NUMBERS", 64 * 40)
    sampled = measure_sizes(word_hash, _set(on_disk=True), *arguments, model="m", shards=tmp_path)
    assert (sampled.documents, sampled.sampled) == (40, True)


def test_a_sample_of_a_corpus_on_the_disk_is_that_of_one_in_memory() -> None:
    drawn = [sample(_set(on_disk=on_disk), max_queries=5, max_documents=30, seed=1) for on_disk in (True, False)]

    assert drawn[0].corpus == drawn[1].corpus
    assert isinstance(drawn[0].corpus, TextTable)
    assert list(drawn[0].corpus) == list(drawn[1].corpus)
    assert texts_fingerprint(drawn[0].corpus) == texts_fingerprint(drawn[1].corpus)
    assert len(sampled_texts(drawn[0].corpus, 10)) == 10


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=9))
def test_a_table_of_texts_is_the_mapping_that_was_added(texts: dict[str, str]) -> None:
    table = TextTable(texts.items())

    assert table == texts
    assert (list(table), list(table.values()), list(table.items())) == (
        list(texts),
        list(texts.values()),
        list(texts.items()),
    )
    assert not any(table.add(key, "another") for key in texts)
    assert table == texts
    assert "not there at all" not in table


def test_documents_with_one_text_or_that_very_title_answer_too() -> None:
    documents = [
        Document("a", "One text.", title="A title", split=Split.TEST, group=0),
        Document("b", "one  TEXT.", group=0),
        Document("c", "Another text.", title="a Title", group=2),
        Document("d", "A third.", title=" "),
    ]
    searched = SearchedDocuments(documents)

    made = from_documents(searched, Split.TEST, "own", "test")

    assert made.qrels == {"q-a": {"a": 1, "b": 1, "c": 1}}
    assert made.families == {"a": "group 0", "b": "group 0", "c": "group 2"}
    assert searched.titles_suffice([Split.TEST])
    assert not searched.titles_suffice([Split.TRAIN])
    assert list(searched.of_split(Split.TRAIN)) == [("b", None), ("c", "a Title"), ("d", None)]


def test_rivals_that_count_words_are_skipped_where_their_index_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from multigrain.display.progress import SilentProgress
    from multigrain.encoders.facts import ModelCost
    from multigrain.encoders.models import Encoding

    monkeypatch.setattr(rivals, "_MOST_IN_WORDS", 10)
    found = rivals.score_rivals(
        [ModelSpec("bm25", "bm25")],
        [_set(on_disk=True)],
        Encoding(),
        model=None,
        cost=ModelCost(),
        progress=SilentProgress(),
    )

    assert found.scores == {}
    assert "index of words of 60 documents" in found.skipped["bm25"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9_999), count=st.integers(0, 40), limit=st.sampled_from([0.2, 0.6, 0.9]))
def test_repeats_are_those_of_a_comparison_one_by_one(seed: int, count: int, limit: float) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    kept: list[int] = []
    expected: dict[int, int] = {}
    for own in range(count):
        near = [other for other in kept if vectors[own] @ vectors[other] > limit]
        if near:
            expected[own] = near[0]
        else:
            kept.append(own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 7)
        patch.setattr(duplicates, "_TILE", 5)
        found = duplicates._repeats(vectors, limit)

    assert {own: first for own, (first, _) in found.items()} == expected
