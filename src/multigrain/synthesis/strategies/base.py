"""What the built-in strategies share: a writer, a name, and how they are made from a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, StrategySettings, Writer

__all__ = ["BuiltInStrategy", "PassageStrategy"]


@dataclass(frozen=True)
class BuiltInStrategy:
    """A strategy that asks through a `Writer`.

    Attributes:
        name: what configs and journals call it.
        writer: asks the model.
    """

    name: ClassVar[str]

    writer: Writer = DEFAULT_WRITER

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return cls(settings.writer)


@dataclass(frozen=True)
class PassageStrategy(BuiltInStrategy):
    """A strategy whose positive is the document, or a passage that is written with the query.

    Attributes:
        write_positive: whether the positive is written too.
    """

    write_positive: bool = False

    @classmethod
    def from_settings(cls, settings: StrategySettings) -> Self:
        """The strategy that a config describes."""
        return cls(settings.writer, write_positive=settings.synthesis.positive == "written")
