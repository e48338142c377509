"""The protocol of strategies, the unit of work that they are given, and the ids of the rows that they write."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from multigrain.llm.protocol import LLMClient
from multigrain.records import Document, SynthesizedRow, Task
from multigrain.synthesis.attributes import Attributes


@dataclass(frozen=True, slots=True)
class LabelUnit:
    """The label that a text is to be written for, and the list that it is of.

    Attributes:
        name: the label's.
        description: the label's.
        others: names and descriptions of other labels, which the text must not fit.
        examples: names of labels, each with a text that has it; one of each label, always in the same order.
    """

    name: str
    description: str
    others: tuple[tuple[str, str], ...]
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class WritingUnit:
    """One row to write.

    Attributes:
        document: what it is written for.
        index: 0 for the document's first query, 1 for its second, …
        with_negatives: whether negatives are to be written as well.
        query: the query where it was given: then only negatives are written, and the query stays as it is.
        style: how the row is to be written.
        relevant_ids: further documents that answer the given query.
        task: the task where there is no document. `document` is then a stand-in with the task's id and text, and
            only strategies that are made for tasks (`from_task`) are given the unit.
        other: a second document that the query must need as well; None where one is enough.
        label: the label that the query, a text, is to be written for; None where queries ask for documents.
    """

    document: Document
    index: int = 0
    with_negatives: bool = True
    query: str | None = None
    style: Attributes = field(default_factory=Attributes)
    relevant_ids: tuple[str, ...] = ()
    task: Task | None = None
    other: Document | None = None
    label: LabelUnit | None = None

    def shown(self, characters: int) -> str:
        """What a model is shown of the document, or of both.

        Args:
            characters: how much at most.
        """
        if self.other is None:
            return self.document.text[:characters]
        parts = (part.text[: characters // 2] for part in (self.document, self.other))
        return "First text:\n{}\n\nSecond text:\n{}".format(*parts)


class Strategy(Protocol):
    """Writes one row for a document, by asking a model as often as it needs."""

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
    parts = [strategy, unit.document.id, unit.document.text, str(unit.index)]
    if unit.query is not None:
        parts.append(unit.query)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def seeded_place(seed: int, purpose: str, identifier: str) -> float:
    """A place in a seeded random order, 0-1."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{identifier}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
