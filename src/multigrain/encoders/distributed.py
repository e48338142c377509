"""Encoders on the workers of an engine, and encoders that are loaded by whoever uses them first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np

from multigrain.encoders.protocol import Encoder, Floats
from multigrain.engine.protocol import Compute, Engine
from multigrain.errors import EngineError

_BATCH: Final = 1_024
Unit = TypeVar("Unit")
Value = TypeVar("Value")


@dataclass(frozen=True)
class DeferredEncoder:
    """An encoder that is loaded by the process that first uses it; may be sent to another one.

    Attributes:
        load: a module's function that keeps what it loaded (`functools.cache`).
        arguments: what it is called with; may be pickled.
    """

    load: Callable[..., Encoder]
    arguments: tuple[Hashable, ...]

    @property
    def fingerprint(self) -> str:
        """The loaded encoder's."""
        return self.load(*self.arguments).fingerprint

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Embed queries."""
        return self.load(*self.arguments).encode_queries(texts)

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Embed documents."""
        return self.load(*self.arguments).encode_documents(texts)


@dataclass(frozen=True)
class DistributedEncoder:
    """An encoder on an engine's workers, a batch of texts a unit.

    Attributes:
        encoder: can be pickled.
        engine: where.
    """

    encoder: Encoder
    engine: Engine

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Embed queries, in order."""
        return self._encode(texts, "queries")

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Embed documents, in order."""
        return self._encode(texts, "documents")

    def _encode(self, texts: Sequence[str], role: Literal["queries", "documents"]) -> Floats:
        work = _Encode(self.encoder, role)
        if not texts:
            return work((0, ()))
        batches = ((start, tuple(texts[start : start + _BATCH])) for start in range(0, len(texts), _BATCH))
        what: Callable[[tuple[int, tuple[str, ...]]], str] = "texts from {0[0]} on could not be embedded".format
        vectors = {unit[0]: part for unit, part in computed(self.engine, work, batches, what)}
        return np.concatenate([vectors[start] for start in sorted(vectors)])


@dataclass(frozen=True)
class _Encode:
    encoder: Encoder
    role: Literal["queries", "documents"]

    def __call__(self, unit: tuple[int, tuple[str, ...]]) -> Floats:
        encode = self.encoder.encode_queries if self.role == "queries" else self.encoder.encode_documents
        return encode(unit[1])


def computed(
    engine: Engine, work: Compute[Unit, Value], units: Iterable[Unit], what: Callable[[Unit], Any]
) -> Iterator[tuple[Unit, Value]]:
    """Units with their values, as an engine's workers finish them.

    Args:
        engine: where.
        work: can be pickled.
        units: what is computed.
        what: says of a unit what failed.

    Raises:
        EngineError: a unit came to nothing.
    """
    for outcome in engine.compute(work, units):
        if outcome.value is None:
            failure = outcome.failure
            reason = "no reason given" if failure is None else f"{failure.kind}: {failure.detail}"
            raise EngineError(f"{what(outcome.unit)} ({reason})")
        yield outcome.unit, outcome.value
