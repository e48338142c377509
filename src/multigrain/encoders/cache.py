"""Embed each text once per model, however many sets share it and however often a command is run again."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.encoders.encoder import Encoder
from multigrain.errors import EvaluationError

__all__ = ["CachedEncoder"]

# Keys looked up in one statement; SQLite's oldest limit on parameters is 999.
_LOOKUP: Final = 900


class CachedEncoder:
    """An encoder that remembers.

    Vectors lie in one SQLite file a model, named by the model's fingerprint (weights and settings, never its name
    or folder: two local folders are two models). Queries and documents are kept apart, as prompts differ.

    Args:
        encoder: embeds what is not known yet.
        fingerprint: identifies the model; see `encoders.model_fingerprint`.
        folder: where the file lies; None keeps it in memory for the life of this object.
        chunk: texts embedded between commits: what an interrupted run loses at most.

    Raises:
        EvaluationError: the folder cannot be written, or the file is no cache.
    """

    def __init__(self, encoder: Encoder, fingerprint: str, folder: Path | None = None, *, chunk: int = 2_048) -> None:
        self._encoder = encoder
        self._chunk = chunk
        self.path = folder / f"embeddings-{fingerprint[:32]}.sqlite" if folder is not None else None
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(self.path or ":memory:", timeout=60)
            self._store.execute("PRAGMA journal_mode=WAL")
            self._store.execute("PRAGMA synchronous=NORMAL")
            self._store.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        except (OSError, sqlite3.Error) as error:
            raise EvaluationError(
                f"embedding cache {self.path}: cannot be used ({error}); delete it or name another folder"
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed queries: (len(texts), dimensions)."""
        return self._encode(b"query", texts, self._encoder.encode_queries)

    def encode_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed documents: (len(texts), dimensions)."""
        return self._encode(b"document", texts, self._encoder.encode_documents)

    def _encode(
        self, kind: bytes, texts: list[str], encode: Callable[[list[str]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        if not texts:
            return encode(texts)
        by_key = {_key(kind, text): text for text in texts}
        vectors = self._known(list(by_key))
        missing = [key for key in by_key if key not in vectors]
        for start in range(0, len(missing), self._chunk):
            chunk = missing[start : start + self._chunk]
            made = np.ascontiguousarray(encode([by_key[key] for key in chunk]), dtype=np.float32)
            with self._store:
                self._store.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                    [(key, vector.tobytes()) for key, vector in zip(chunk, made, strict=True)],
                )
            vectors.update(zip(chunk, made, strict=True))
        return np.stack([vectors[_key(kind, text)] for text in texts])

    def _known(self, keys: list[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        for start in range(0, len(keys), _LOOKUP):
            chunk = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(chunk))
            rows = self._store.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", chunk)  # noqa: S608
            found.update((key, np.frombuffer(vector, dtype=np.float32)) for key, vector in rows)
        return found


def _key(kind: bytes, text: str) -> bytes:
    return hashlib.sha256(kind + b"\0" + text.encode("utf-8", "surrogatepass")).digest()
