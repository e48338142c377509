"""What every strategy is: it turns one document into one row, by asking a model as often as it needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from multigrain.llm.protocol import LLMClient
from multigrain.records import Document, SynthesizedRow

__all__ = ["Strategy", "WritingUnit", "row_id"]


@dataclass(frozen=True, slots=True)
class WritingUnit:
    """One row to write.

    Attributes:
        document: what it is written for.
        index: 0 for the document's first query, 1 for its second, …
        with_negatives: whether negatives are to be written as well.
    """

    document: Document
    index: int = 0
    with_negatives: bool = True


class Strategy(Protocol):
    """How a document becomes a row."""

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        ...

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row.

        Raises:
            UnusableAnswer: this row's answers could not be used; other rows are not affected.
            LLMError: the model cannot be used at all.
        """
        ...


def row_id(strategy: str, unit: WritingUnit) -> str:
    """A short stable id of the row that a strategy writes for a unit."""
    content = "\x1f".join((strategy, unit.document.id, unit.document.text, str(unit.index)))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
