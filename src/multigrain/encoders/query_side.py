"""Models that embed queries their own way, and documents as another model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from multigrain.config import fingerprint
from multigrain.encoders.facts import EncodingFacts
from multigrain.encoders.protocol import Encoder, Floats, Role, RoleEncoder


class KnownDocuments(RoleEncoder):
    """Vectors of documents that no tuning changes, in memory.

    Args:
        vectors: by text, each (dimensions,).
    """

    def __init__(self, vectors: Mapping[str, Floats]) -> None:
        self._vectors = vectors

    @property
    def fingerprint(self) -> str:
        """Of the texts and their vectors."""
        return fingerprint("known", [(text, vector.tobytes().hex()) for text, vector in self._vectors.items()])

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        del role
        return np.stack([self._vectors[text] for text in texts])


class QuerySideEncoder(RoleEncoder):
    """Queries by one encoder, documents by another: what the other has embedded already is not embedded again.

    Args:
        queries: embeds queries.
        documents: embeds documents; its vectors are of the same length.
    """

    def __init__(self, queries: Encoder, documents: Encoder) -> None:
        self._queries = queries
        self._documents = documents

    @property
    def fingerprint(self) -> str:
        """Of both."""
        return fingerprint("query side", self._queries.fingerprint, self._documents.fingerprint)

    @property
    def facts(self) -> EncodingFacts | None:
        """Those of what embeds queries."""
        return self._queries.facts if isinstance(self._queries, RoleEncoder) else None

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        if role == "query":
            return self._queries.encode_queries(texts)
        return self._documents.encode_documents(texts)
