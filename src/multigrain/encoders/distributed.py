"""Encoders on the workers of an engine, and encoders that are loaded by whoever uses them first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from multigrain.encoders.facts import EncodingFacts
from multigrain.encoders.protocol import Encoder, Floats, Role, RoleEncoder, encode_as
from multigrain.engine.protocol import Compute, Engine
from multigrain.errors import EngineError

_BATCH: Final = 1_024
Unit = TypeVar("Unit")
Value = TypeVar("Value")


@dataclass(frozen=True)
class DeferredEncoder(RoleEncoder):
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

    @property
    def facts(self) -> EncodingFacts | None:
        """The loaded encoder's."""
        loaded = self.load(*self.arguments)
        return loaded.facts if isinstance(loaded, RoleEncoder) else None

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        return encode_as(self.load(*self.arguments), texts, role)


@dataclass(frozen=True)
class DistributedEncoder(RoleEncoder):
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

    @property
    def facts(self) -> EncodingFacts | None:
        """The encoder's."""
        return self.encoder.facts if isinstance(self.encoder, RoleEncoder) else None

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
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
    role: Role

    def __call__(self, unit: tuple[int, tuple[str, ...]]) -> Floats:
        return encode_as(self.encoder, unit[1], self.role)


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
