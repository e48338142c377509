from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from multigrain.encoders.cache import CachedEncoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet


def test_scores_are_those_of_the_encoder_itself(word_hash, animals: EvaluationSet) -> None:
    cached = CachedEncoder(word_hash, "model")
    first, again = evaluate_retrieval(cached, animals), evaluate_retrieval(cached, animals)
    assert first == again == evaluate_retrieval(word_hash, animals)


def test_each_text_is_embedded_once_across_sets_and_processes(
    word_hash, animals: EvaluationSet, tmp_path: Path
) -> None:
    cached = CachedEncoder(word_hash, "model", tmp_path)
    evaluate_retrieval(cached, animals)
    evaluate_retrieval(cached, animals)
    cached.close()
    assert len(word_hash.seen) == len(set(word_hash.seen)) == 7
    evaluate_retrieval(CachedEncoder(word_hash, "model", tmp_path), animals)
    assert len(word_hash.seen) == 7, "a later process finds the vectors in the file"


def test_repeated_texts_keep_their_places(word_hash) -> None:
    texts = ["dog", "cat", "dog", "owl", "cat"]
    cached = CachedEncoder(word_hash, "model")
    np.testing.assert_array_equal(cached.encode_queries(texts), word_hash.encode_queries(texts))
    assert word_hash.seen[:3] == ["dog", "cat", "owl"]


def test_another_fingerprint_and_the_other_kind_share_nothing(word_hash, tmp_path: Path) -> None:
    one = CachedEncoder(word_hash, "one", tmp_path)
    one.encode_queries(["cat"])
    one.encode_documents(["cat"])
    CachedEncoder(word_hash, "two", tmp_path).encode_queries(["cat"])
    assert word_hash.seen == ["cat"] * 3


def test_an_interrupted_run_keeps_what_was_embedded(word_hash, tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(6)]
    original = word_hash.encode_documents

    def stops(chunk: list[str]) -> np.ndarray:
        if len(word_hash.seen) >= 4:
            raise KeyboardInterrupt
        return original(chunk)

    word_hash.encode_documents = stops
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(word_hash, "model", tmp_path, chunk=2).encode_documents(texts)
    word_hash.encode_documents = original
    vectors_again = CachedEncoder(word_hash, "model", tmp_path).encode_documents(texts)
    assert word_hash.seen == texts, "nothing was embedded twice"
    np.testing.assert_array_equal(vectors_again, original(texts))


def test_a_file_that_is_no_cache_is_refused(word_hash, tmp_path: Path) -> None:
    CachedEncoder(word_hash, "model", tmp_path).close()
    (path,) = tmp_path.glob("*.sqlite")
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(EvaluationError, match="cannot be used"):
        CachedEncoder(word_hash, "model", tmp_path)


def test_a_file_of_an_earlier_version_is_read_and_written(word_hash, tmp_path: Path) -> None:
    cached = CachedEncoder(word_hash, "model", tmp_path)
    expected = cached.encode_documents(["cat", "dog"])
    cached.close()
    (path,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(path) as store:
        rows = store.execute("SELECT key, vector FROM vectors").fetchall()
    store.close()
    path.unlink()
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")  # as they were
        store.executemany("INSERT INTO vectors VALUES (?, ?)", rows)
    store.close()

    cached = CachedEncoder(word_hash, "model", tmp_path)
    assert cached.missing(["owl", "dog", "owl"], "document") == ["owl"]
    np.testing.assert_array_equal(cached.encode_documents(["cat", "dog", "owl"])[:2], expected)
    assert not cached.missing(["owl"], "document")
    assert word_hash.seen == ["cat", "dog", "owl"]
