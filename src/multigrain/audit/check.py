"""What a check of the audit is, what it is given to look at, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats
from multigrain.records import Level, Rejection, SynthesizedRow

Part: TypeAlias = Literal["query", "positive", "negative"]
"""The texts of a row."""


@dataclass(frozen=True)
class Problem:
    """Why a row or one of its texts is turned away.

    Attributes:
        reason: a short stable word, one of the check's `reasons`.
        detail: the figure or words behind it.
    """

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class CheckedText:
    """A text with a word in it, and the row that it belongs to.

    Attributes:
        text: as it was written.
        words: its words, case-folded.
        row: the row; for a negative that was written again, the row that it was written for.
        limits: the config's `audit` section, with the lengths that go for the row.
    """

    text: str
    words: Sequence[str]
    row: SynthesizedRow
    limits: AuditConfig


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A row that the reference model has measured.

    Attributes:
        row: the row.
        similarity: cosine of query and positive.
        others: (k,) cosines of the query and the documents nearest to it that do not answer it, falling.
        limits: the config's `audit` section, with the lengths that go for the row.
    """

    row: SynthesizedRow
    similarity: float
    others: Floats
    limits: AuditConfig


TextCheck: TypeAlias = Callable[[CheckedText], Problem | None]
RowCheck: TypeAlias = Callable[[SynthesizedRow, AuditConfig], Problem | None]
MeasuredCheck: TypeAlias = Callable[[MeasuredRow], Problem | None]
SetCheck: TypeAlias = Callable[[Sequence[SynthesizedRow], Sequence[int], AuditConfig], Mapping[int, Problem]]


@dataclass(frozen=True)
class Check:
    """A check of the audit, by the functions that it asks; each says what is wrong, or None.

    Checks are asked in the order of their table. The first problem of a row turns it away, and the first problem of a
    written negative turns that negative away.

    Attributes:
        name: its key under `audit.checks`.
        reasons: every reason that it gives, with the words by which the command line, report and card tell it.
        query: asked of a query that was written, not of a given one.
        positive: asked of a positive, be it written or a document.
        negative: asked of each written negative.
        row: asked of a row by itself, when its texts have passed.
        rows: asked of all rows together, with the places of those that passed so far: the problems by place.
        measured: asked of a row whose texts have been measured.
        first_on: texts of which it is asked before the checks above it in the table.
    """

    name: str
    reasons: Mapping[str, str]
    query: TextCheck | None = None
    positive: TextCheck | None = None
    negative: TextCheck | None = None
    row: RowCheck | None = None
    rows: SetCheck | None = None
    measured: MeasuredCheck | None = None
    first_on: tuple[Part, ...] = ()


def reject(row: SynthesizedRow, problem: Problem, level: Level | None = None, text: str | None = None) -> Rejection:
    """A rejection of a row, or of one of its negatives."""
    return Rejection(
        id=row.id,
        part="row" if level is None else f"level_{int(level)}",
        reason=problem.reason,
        detail=problem.detail,
        query=row.query,
        text=row.positive if text is None else text,
    )
