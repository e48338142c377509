"""A graded data set in figures, for people at a prompt or in a notebook."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from multigrain.display.tables import Table
from multigrain.records import LEVELS, GradedExample, Origin


@dataclass(frozen=True, slots=True)
class SimilarityPercentiles:
    """Measured similarity to the query, of the positives or of one level.

    Attributes:
        name: "positive", or the level.
        median: half of the texts lie below.
        low: a tenth does.
        high: nine tenths do.
        written: share that a language model wrote; the others come from the corpus. None for positives.
    """

    name: str
    median: float
    low: float
    high: float
    written: float | None = None


@dataclass(frozen=True)
class DatasetSummary:
    """What a graded data set holds, and what was turned away from it.

    Printed, it is a table; the last expression of a notebook cell, the same table in HTML.

    Attributes:
        rows: how many it has.
        documents: how many documents they are about.
        similarities: of positives and of each level, level 1 (easiest) first.
        order_held: share of the rows whose written levels measured in the order they were asked for; None where no
            row was written at all levels.
        rejected: reason to how often, for whole rows and for `negative:REASON`; empty where no audit is known.
    """

    rows: int
    documents: int
    similarities: tuple[SimilarityPercentiles, ...]
    order_held: float | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        rows = [
            [
                similarity.name,
                f"{similarity.median:.3f}",
                f"{similarity.low:.3f} to {similarity.high:.3f}",
                "" if similarity.written is None else f"{similarity.written:.0%}",
            ]
            for similarity in self.similarities
        ]
        notes = []
        if self.order_held is not None:
            notes.append(f"{self.order_held:.0%} of the rows written at all levels measured in the order asked for.")
        if self.rejected:
            reasons = sorted(self.rejected.items(), key=lambda item: (-item[1], item[0]))
            notes.append("Rejected: " + ", ".join(f"{name} {count:,}" for name, count in reasons) + ".")
        return Table(
            title=f"{self.rows:,} graded rows about {self.documents:,} documents",
            columns=["similarity to the query", "median", "10% to 90%", "written"],
            rows=rows,
            notes=notes,
        )


def summarise_examples(
    examples: Iterable[GradedExample], *, rejected: Mapping[str, int] | None = None
) -> DatasetSummary:
    """Summarise graded rows. Of a row its similarities are kept, and the id of its document.

    Args:
        examples: the rows; read once.
        rejected: reason to how often, as the audit counted.
    """
    positives, negatives = array("d"), [array("d") for _ in LEVELS]
    written = [0] * len(LEVELS)
    in_order = ordered = 0
    documents = set()
    for example in examples:
        documents.add(example.document_id)
        positives.append(example.positive_similarity)
        for place, negative in enumerate(example.negatives):
            negatives[place].append(negative.similarity)
            written[place] += negative.origin is Origin.WRITTEN
        in_order += bool(example.written_order_held)
        ordered += example.written_order_held is not None
    rows = len(positives)
    similarities = [_percentiles("positive", positives)] if rows else []
    for place, level in enumerate(LEVELS if rows else ()):
        similarities.append(_percentiles(f"level {int(level)}", negatives[place], written[place] / rows))
    return DatasetSummary(
        rows=rows,
        documents=len(documents - {None}),
        similarities=tuple(similarities),
        order_held=in_order / ordered if ordered else None,
        rejected=dict(rejected or {}),
    )


def _percentiles(name: str, values: Sequence[float], written: float | None = None) -> SimilarityPercentiles:
    low, median, high = (float(value) for value in np.percentile(values, [10, 50, 90]))
    return SimilarityPercentiles(name, median, low, high, written)
