"""Embedding and searching on the workers of an engine: the same results as here, from wherever there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import numpy as np

from multigrain.config import Config, fingerprint
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Compute, Engine
from multigrain.errors import EngineError
from multigrain.mining.search import Floats, Indices, Mask, Rows, top_k
from multigrain.mining.vectors import ShardWork, VectorStore, missing_shards, write_shard

if TYPE_CHECKING:
    from multigrain.encoders.reference import ReferenceModel

__all__ = [
    "Embedder",
    "ReferenceEmbedder",
    "SpreadEmbedder",
    "SpreadReference",
    "SpreadSearch",
    "TextEmbedder",
    "corpus_vectors",
    "spread_reference",
    "write_shards",
]

_TEXTS: Final = 1_024
_QUERIES: Final = 2_048
_SHARD_ROWS: Final = 16_384
_PROBE: Final = "which model is this? "
_LONG_PROBE: Final = 2_000
"""Repeats after which the probe is longer than what models are told to read."""
_IN_MEMORY: Final = 100_000
"""Texts whose vectors are kept in memory: 150 MB at 384 dimensions."""
Value = TypeVar("Value")


class Embedder(Protocol):
    """A model that embeds: what `evaluation.encoders.Encoder` is, with a name for its vectors."""

    @property
    def identity(self) -> str:
        """A fingerprint of what decides the vectors."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised."""
        ...

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised."""
        ...


@dataclass(frozen=True)
class ReferenceEmbedder:
    """The audit's reference model, loaded in the process that uses it; may be sent to another one.

    Attributes:
        config: as JSON, names it.
    """

    config: str

    @property
    def identity(self) -> str:
        """A fingerprint of the model."""
        from multigrain.encoders.encoder import model_fingerprint

        return fingerprint("reference", model_fingerprint(_reference(self.config).model))

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised query vectors."""
        vectors: Floats = _reference(self.config).embed_queries(texts)
        return vectors

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised document vectors."""
        vectors: Floats = _reference(self.config).embed_passages(texts)
        return vectors


@lru_cache(maxsize=1)
def _reference(config: str) -> Any:
    from multigrain.encoders.reference import reference_model

    return reference_model(Config.model_validate_json(config))


@dataclass(frozen=True)
class _Embed:
    embedder: Embedder
    side: Literal["queries", "passages"]

    def __call__(self, unit: tuple[int, tuple[str, ...]]) -> Floats:
        embed = self.embedder.embed_queries if self.side == "queries" else self.embedder.embed_passages
        return embed(unit[1])


@dataclass(frozen=True)
class SpreadEmbedder:
    """Embeds on an engine's workers, a lot of texts a unit.

    Attributes:
        embedder: can be pickled.
        engine: where.
    """

    embedder: Embedder
    engine: Engine

    @property
    def identity(self) -> str:
        """The embedder's."""
        return self.embedder.identity

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised query vectors."""
        return self._embed(texts, "queries")

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised document vectors."""
        return self._embed(texts, "passages")

    def _embed(self, texts: Sequence[str], side: Literal["queries", "passages"]) -> Floats:
        lots = ((start, tuple(texts[start : start + _TEXTS])) for start in range(0, len(texts), _TEXTS))
        found = dict(_done(self.engine, _Embed(self.embedder, side), lots))
        return np.concatenate([found[lot] for lot in sorted(found)])


@dataclass(frozen=True)
class SpreadReference(SpreadEmbedder):
    """The reference model on an engine's workers.

    Attributes:
        name: what reports call it.
    """

    name: str = ""


@contextmanager
def spread_reference(config: Config, *, cache: Path | None = None) -> Iterator[ReferenceModel | SpreadReference]:
    """The model that the audit measures with, on the workers of the config's engine; here where that is local.

    Args:
        config: names both.
        cache: a folder that keeps vectors for other runs; used where the model is here.
    """
    from multigrain.encoders.reference import reference_model
    from multigrain.storage.packages import encoder_name

    if config.engine.kind == "local":
        yield reference_model(config, cache=cache)
        return
    named = config.audit.reference_model
    with build_engine(config.engine) as engine:
        embedder = ReferenceEmbedder(config.model_dump_json())
        yield SpreadReference(embedder, engine, encoder_name(config.training.base_model if named == "auto" else named))


def corpus_vectors(embedder: TextEmbedder, texts: Sequence[str], folder: Path) -> Rows:
    """A corpus' vectors: in memory where they are few, in shards on disk, read block by block, where they are many.

    Shards are written as they are made: killed, the next call goes on with the first that is missing.

    Args:
        embedder: embeds passages.
        texts: the corpus.
        folder: for the shards; emptied first of what another corpus left.
    """
    if len(texts) <= _IN_MEMORY:
        return embedder.embed_passages(texts)
    names: list[str] = []
    lots = (texts[start : start + _SHARD_ROWS] for start in range(0, len(texts), _SHARD_ROWS))
    identity = _identity(embedder)
    for work in missing_shards(str(folder), identity, lots, names):
        write_shard(str(folder), work.name, embedder.embed_passages(work.texts))
    return VectorStore.finish(str(folder), identity, names)


def _identity(embedder: TextEmbedder) -> str:
    """What tells embedders apart: the same model gives the same vectors, also of a text that it has to cut."""
    probe = embedder.embed_passages([_PROBE, _PROBE * _LONG_PROBE])
    return fingerprint("corpus", probe.tobytes().hex())


class TextEmbedder(Protocol):
    """What embeds passages."""

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised."""
        ...


@dataclass(frozen=True)
class _WriteShard:
    place: str
    embedder: Embedder

    def __call__(self, work: ShardWork) -> int:
        write_shard(self.place, work.name, self.embedder.embed_passages(work.texts))
        return len(work.texts)


def write_shards(engine: Engine, works: Iterator[ShardWork], place: str, embedder: Embedder) -> Iterator[int]:
    """Embed shards on an engine's workers, which write them; yields the rows of each.

    Args:
        engine: where.
        works: what is missing.
        place: a folder or address that every worker and this process share.
        embedder: can be pickled.

    Raises:
        EngineError: a shard could not be made.
    """
    for outcome in engine.compute(_WriteShard(place, embedder), works):
        if outcome.value is None:
            raise EngineError(f"{place}/{outcome.unit.name}: could not be embedded ({_why(outcome.failure)})")
        yield outcome.value


@dataclass(frozen=True)
class _SearchUnit:
    number: int
    queries: Floats
    k: int
    ceilings: Floats | None


@dataclass(frozen=True)
class _Search:
    place: str
    left_out: Mask

    def __call__(self, unit: _SearchUnit) -> tuple[Floats, Indices]:
        corpus = VectorStore(self.place)
        return top_k(unit.queries, corpus, unit.k, ceilings=unit.ceilings, left_out=self.left_out)


@dataclass(frozen=True)
class SpreadSearch:
    """Exact search over a store that every worker can read, a lot of queries a unit. Implements `mine.Search`.

    Attributes:
        place: the store.
        engine: where.
    """

    place: str
    engine: Engine

    def __call__(self, queries: Floats, k: int, ceilings: Floats | None, left_out: Mask) -> tuple[Floats, Indices]:
        """Find rows as `top_k` does."""
        units = [
            _SearchUnit(
                start,
                queries[start : start + _QUERIES],
                k,
                None if ceilings is None else ceilings[start : start + _QUERIES],
            )
            for start in range(0, len(queries), _QUERIES)
        ]
        found: dict[int, tuple[Floats, Indices]] = {}
        for outcome in self.engine.compute(_Search(self.place, left_out), units):
            if outcome.value is None:
                raise EngineError(f"{self.place}: could not be searched ({_why(outcome.failure)})")
            found[outcome.unit.number] = outcome.value
        parts = [found[unit.number] for unit in units]
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([rows for _, rows in parts])


def _done(
    engine: Engine, work: Compute[tuple[int, tuple[str, ...]], Value], units: Iterator[tuple[int, tuple[str, ...]]]
) -> Iterator[tuple[int, Value]]:
    for outcome in engine.compute(work, units):
        if outcome.value is None:
            raise EngineError(f"texts from {outcome.unit[0]} on could not be embedded ({_why(outcome.failure)})")
        yield outcome.unit[0], outcome.value


def _why(failure: Any) -> str:
    return "no reason given" if failure is None else f"{failure.kind}: {failure.detail}"
