"""Embed each text once per model, however many sets share it and however often a command is run again."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from multigrain.encoders.facts import EncodingFacts
from multigrain.encoders.protocol import Encoder, Floats, Role, RoleEncoder, encode_as
from multigrain.errors import EvaluationError

# Keys looked up in one statement; SQLite's oldest limit on parameters is 999.
_LOOKUP: Final = 900
# Vectors lie one after another, ten to a page of a new file, and their keys in an index beside them. Kept in the order
# of keys, which are hashes, each new vector would be written into the middle of the file.
_PAGE: Final = 16_384


class CachedEncoder(RoleEncoder):
    """An encoder that keeps what it has embedded.

    Vectors lie in one SQLite file a model, named by the model's fingerprint (weights and settings, never its name
    or folder: two local folders are two models). Queries and documents are kept apart, as prompts differ.

    Args:
        encoder: embeds what is not known yet.
        fingerprint: names the model and its precision; two models never share one.
        folder: where the file lies; None keeps it in memory for the life of this object.
        chunk: texts embedded between commits: what an interrupted run loses at most.

    Raises:
        EvaluationError: the folder cannot be written, or the file is no cache.
    """

    def __init__(self, encoder: Encoder, fingerprint: str, folder: Path | None = None, *, chunk: int = 2_048) -> None:
        self._encoder = encoder
        self.fingerprint = fingerprint
        self._chunk = chunk
        self.path = folder / f"embeddings-{fingerprint[:32]}.sqlite" if folder is not None else None
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(self.path or ":memory:", timeout=60, check_same_thread=False)
            self._store.execute(f"PRAGMA page_size={_PAGE}")
            self._store.execute("PRAGMA journal_mode=WAL")
            self._store.execute("PRAGMA synchronous=NORMAL")
            self._store.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB)")
        except (OSError, sqlite3.Error) as error:
            raise EvaluationError(
                f"embedding cache {self.path}: cannot be used ({error}); delete it or name another folder"
            ) from None

    @property
    def uncached(self) -> Encoder:
        """The encoder that embeds what is not known yet."""
        return self._encoder

    @property
    def facts(self) -> EncodingFacts | None:
        """The encoder's."""
        return self._encoder.facts if isinstance(self._encoder, RoleEncoder) else None

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        if not texts:
            return encode_as(self._encoder, texts, role)
        by_key = {_key(role, text): text for text in texts}
        vectors = self._stored(list(by_key))
        missing = [key for key in by_key if key not in vectors]
        vectors.update(self._embedded({key: by_key[key] for key in missing}, role))
        self._require_one_width(texts, [len(vectors[_key(role, text)]) for text in texts])
        return np.stack([vectors[_key(role, text)] for text in texts])

    def missing(self, texts: Sequence[str], role: Role) -> list[str]:
        """The texts, each once, that would have to be embedded."""
        by_key = {_key(role, text): text for text in texts}
        keys, stored = list(by_key), set[bytes]()
        for start in range(0, len(keys), _LOOKUP):
            stored.update(key for (key,) in self._rows("key", keys[start : start + _LOOKUP]))
        return [text for key, text in by_key.items() if key not in stored]

    def add(self, texts: Sequence[str], vectors: Floats, role: Role) -> None:
        """Keep vectors that come from elsewhere.

        Args:
            texts: what they are of.
            vectors: (len(texts), dimensions), as the encoder would give them.
            role: as what.
        """
        self._keep({_key(role, text): vector for text, vector in zip(texts, vectors, strict=True)})

    def _embedded(self, by_key: Mapping[bytes, str], role: Role) -> dict[bytes, Floats]:
        """Embed texts that are not known yet, and keep them."""
        keys, vectors = list(by_key), {}
        for start in range(0, len(keys), self._chunk):
            chunk = keys[start : start + self._chunk]
            embedded = np.ascontiguousarray(
                encode_as(self._encoder, [by_key[key] for key in chunk], role), dtype=np.float32
            )
            found = dict(zip(chunk, embedded, strict=True))
            self._keep(found)
            vectors.update(found)
        return vectors

    def _keep(self, vectors: Mapping[bytes, Floats]) -> None:
        with self._store:
            self._store.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                # Zeros stand for a text that could not be embedded: another run tries, and says, it again.
                [(key, vector.tobytes()) for key, vector in vectors.items() if vector.any()],
            )

    def _require_one_width(self, texts: Sequence[str], widths: Sequence[int]) -> None:
        """A server may have another model behind the same name by now."""
        other = next((number for number, width in enumerate(widths) if width != widths[0]), None)
        if other is not None:
            raise EvaluationError(
                f"embedding cache {self.path or 'in memory'}: text {other + 1} ({texts[other][:40]!r}) has a vector "
                f"of {widths[other]} dimensions, text 1 one of {widths[0]}: another model answers to the name now; "
                "delete the cache, or name another folder"
            )

    def _stored(self, keys: list[bytes]) -> dict[bytes, Floats]:
        vectors: dict[bytes, Floats] = {}
        for start in range(0, len(keys), _LOOKUP):
            rows = self._rows("key, vector", keys[start : start + _LOOKUP])
            vectors.update((key, np.frombuffer(vector, dtype=np.float32)) for key, vector in rows)
        return vectors

    def _rows(self, columns: str, keys: list[bytes]) -> sqlite3.Cursor:
        parameters = ",".join("?" * len(keys))
        return self._store.execute(f"SELECT {columns} FROM vectors WHERE key IN ({parameters})", keys)  # noqa: S608


def _key(role: Role, text: str) -> bytes:
    return hashlib.sha256(role.encode() + b"\0" + text.encode("utf-8", "surrogatepass")).digest()
