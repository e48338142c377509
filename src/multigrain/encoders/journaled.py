"""Vectors of a model behind an endpoint, kept as they arrive: what is on the disk is never paid for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.facts import EncodingFacts
from multigrain.encoders.protocol import Floats, Role, unit_length
from multigrain.encoders.served import Answer, EmbeddingUsage, ServedEncoder
from multigrain.errors import EvaluationError

PROBE: Final = "The quick brown fox jumps over the lazy dog; 0123456789 ¿dónde? 天気"
"""A text whose vector is asked for again in every process, to see whether it is still the same."""
LEAST_COSINE: Final = 0.999
"""Below it a probe's vector is another one. Servers that compute in half precision stay above .9999."""

Allow = Callable[[Sequence[str]], None]
"""Is told of texts before they are sent, and raises where they cost too much."""


def check_probe(asked: ServedEncoder, kept: Floats, *, since: str, remedy: str) -> None:
    """See that an endpoint gives the vectors that it gave before.

    Args:
        asked: the endpoint; it is asked for one text.
        kept: the probe's vector, (dimensions,).
        since: when that was.
        remedy: what to do otherwise, in words.

    Raises:
        EvaluationError: the probe's vector is of another length, or another one.
    """
    require_same_probe(asked.encode_queries([PROBE])[0], kept, asked.where, since=since, remedy=remedy)


def require_same_probe(now: Floats, kept: Floats, where: str, *, since: str, remedy: str) -> None:
    """See `check_probe`."""
    if len(now) != len(kept):
        change = f"has {len(now)} dimensions, and had {len(kept)}"
    elif (cosine := float(now @ kept)) < LEAST_COSINE:
        change = f"has a cosine of {cosine:.3f} with what it was"
    else:
        return
    raise EvaluationError(f"{where}: its vectors changed since {since}: a probe text's {change}; {remedy}")


class JournaledEncoder(CachedEncoder):
    """A served model whose every answer is written to the disk before the next thing is done with it.

    However a process ends, what had arrived is there, and what had not is asked for again. Before a process sends its
    first text, a probe text's vector is compared with the one that was kept.

    Args:
        encoder: asks the endpoint.
        folder: where the journal lies; None keeps it in memory for the life of this object.
        allow: told of the texts of each call that are not known yet, before they are sent.

    Raises:
        EvaluationError: as `CachedEncoder`; while encoding, also: the endpoint's vectors changed.
    """

    def __init__(self, encoder: ServedEncoder, folder: Path | None, *, allow: Allow = lambda texts: None) -> None:
        super().__init__(encoder, encoder.fingerprint, folder)
        self.endpoint = encoder
        self.allow = allow
        self._probed = False
        self._sent: dict[str, bytes] = {}
        self._counted = EmbeddingUsage()
        encoder.on_answer = self._arrived
        with self._store:
            self._store.execute("CREATE TABLE IF NOT EXISTS usage (requests INTEGER, tokens INTEGER)")
            self._store.execute("CREATE TABLE IF NOT EXISTS probe (vector BLOB, since TEXT)")
            self._store.execute("CREATE TABLE IF NOT EXISTS imported (content TEXT PRIMARY KEY)")

    @property
    def facts(self) -> EncodingFacts | None:
        """What is known of a model that runs elsewhere: its prompts."""
        return EncodingFacts(
            query_prompt=self.endpoint.prompts["query"], document_prompt=self.endpoint.prompts["document"]
        )

    @property
    def usage(self) -> EmbeddingUsage:
        """What all processes together have had embedded."""
        ((requests, tokens),) = self._store.execute("SELECT TOTAL(requests), TOTAL(tokens) FROM usage").fetchall()
        return EmbeddingUsage(int(requests), int(tokens))

    def probe(self) -> Floats:
        """The probe text's vector, (dimensions,): the one that was kept, compared with the endpoint's once a process.

        Raises:
            EvaluationError: the endpoint's vectors changed.
        """
        kept = self._store.execute("SELECT vector, since FROM probe").fetchone()
        if kept is not None and self._probed:
            return np.array(np.frombuffer(kept[0], dtype=np.float32))
        now: Floats = self.endpoint.encode_queries([PROBE])[0]
        self._count()
        if kept is not None:
            vector = np.frombuffer(kept[0], dtype=np.float32)
            remedy = f"begin another run, or delete {self.path} to embed everything again"
            require_same_probe(now, vector, self.endpoint.where, since=kept[1], remedy=remedy)
            now = vector
        else:
            with self._store:
                today = datetime.now(UTC).date().isoformat()
                self._store.execute("INSERT INTO probe VALUES (?, ?)", (now.tobytes(), today))
        self._probed = True
        return now

    @property
    def since(self) -> str:
        """The day on which the probe's vector was kept; empty before that."""
        kept = self._store.execute("SELECT since FROM probe").fetchone()
        return "" if kept is None else str(kept[0])

    def reserve(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        """See that texts which will be embedded, in however many calls, may be, before the first is sent.

        Raises:
            MultigrainError: what `allow` raises.
        """
        self.allow([*self.missing(queries, "query"), *self.missing(documents, "document")])

    def was_imported(self, content: str) -> bool:
        """Whether vectors of some content were taken in before."""
        return self._store.execute("SELECT 1 FROM imported WHERE content = ?", (content,)).fetchone() is not None

    def note_import(self, content: str) -> None:
        """Remember that vectors of some content were taken in."""
        with self._store:
            self._store.execute("INSERT OR IGNORE INTO imported VALUES (?)", (content,))

    def _embedded(self, by_key: Mapping[bytes, str], role: Role) -> dict[bytes, Floats]:
        if not by_key:
            return {}
        texts = list(by_key.values())
        self.allow(texts)
        self.probe()
        self._sent = {self.endpoint.prompted(text, role): key for key, text in by_key.items()}
        try:
            vectors = self._encoder.encode_queries(texts) if role == "query" else self._encoder.encode_documents(texts)
        finally:
            self._sent = {}
        return dict(zip(by_key, np.ascontiguousarray(vectors, dtype=np.float32), strict=True))

    def _arrived(self, role: Role, texts: Sequence[str], answers: Sequence[Answer]) -> None:
        del role
        found: dict[bytes, Floats] = {}
        for text, answer in zip(texts, answers, strict=True):
            if isinstance(answer, str) or text not in self._sent:
                continue
            vector = unit_length(np.array([answer], dtype=np.float32))[0]
            if np.isfinite(vector).all():
                found[self._sent[text]] = vector
        self._keep(found)
        self._count()

    def _count(self) -> None:
        """Write down what was read since the last time."""
        now, before = self.endpoint.usage, self._counted
        with self._store:
            self._store.execute(
                "INSERT INTO usage VALUES (?, ?)", (now.requests - before.requests, now.tokens - before.tokens)
            )
        self._counted = EmbeddingUsage(now.requests, now.tokens)
