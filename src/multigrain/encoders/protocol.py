"""The protocol of embedding models, and the form of their vectors. Importing it loads no heavy library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multigrain.encoders.facts import EncodingFacts

Floats: TypeAlias = NDArray[np.float32]
Role: TypeAlias = Literal["query", "document"]


class Encoder(Protocol):
    """Turns texts into vectors whose dot product is the model's similarity.

    Vectors are float32, and of length 1 where the model compares by cosine. The prompts that go before queries and
    documents are the encoder's own business.
    """

    @property
    def fingerprint(self) -> str:
        """Names all that decides the vectors: weights, settings, prompts; neither name nor folder."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Embed queries: (len(texts), dimensions)."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Embed documents: (len(texts), dimensions), the same dimensions as queries."""
        ...


class RoleEncoder(ABC):
    """Base of encoders that embed both roles by one method."""

    @property
    def facts(self) -> EncodingFacts | None:
        """What decides figures besides the weights, where that is known."""
        return None

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Embed queries, with what the encoder puts before them: (len(texts), dimensions)."""
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Embed documents, with what the encoder puts before them: (len(texts), dimensions)."""
        return self._encode(texts, "document")

    @abstractmethod
    def _encode(self, texts: Sequence[str], role: Role) -> Floats: ...


def encode_as(encoder: Encoder, texts: Sequence[str], role: Role) -> Floats:
    """Embed texts as queries or as documents."""
    return encoder.encode_queries(texts) if role == "query" else encoder.encode_documents(texts)


def unit_length(vectors: Any) -> Floats:
    """Vectors scaled to length 1, in float32: (n, dimensions). Vectors of zeros stay as they are."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
