"""Query by query: where one model wins over another and where it loses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.display.text import one_line
from multigrain.errors import EvaluationError
from multigrain.evaluation.per_query import QueryRow

_TIE: Final = 1e-6
"""Metrics that differ by less than a float32's rounding are a tie."""

_EXCERPT: Final = 160
"""Characters of a document shown beside a query."""

RowTable = dict[tuple[str, str], dict[str, QueryRow]]
"""Set and model to query id to row."""


@dataclass(frozen=True, slots=True)
class QueryChange:
    """One query under both models.

    Attributes:
        before: the base model's row.
        after: the other model's.
    """

    before: QueryRow
    after: QueryRow

    @property
    def change(self) -> float:
        """nDCG@10 of the other model minus that of the base."""
        return self.after.ndcg_at_10 - self.before.ndcg_at_10

    @property
    def wrong_id(self) -> str | None:
        """The wrong document that the poorer of the two models puts first; None where what it puts first is right."""
        poorer = self.before if self.change > 0 else self.after
        first = next(iter(poorer.top_ids), None)
        return first if first not in self.after.relevant_ids else None


@dataclass(frozen=True, slots=True)
class QueryChanges:
    """How one set's queries moved from the base to another model.

    Attributes:
        set: the set's name.
        better: queries whose nDCG@10 rose.
        same: queries whose nDCG@10 stayed.
        worse: queries whose nDCG@10 fell.
        base_first: queries for which the base model puts a relevant document first.
        model_first: queries for which the other model does.
        wins: the largest rises, largest first.
        losses: the largest falls, largest first.
    """

    set: str
    better: int
    same: int
    worse: int
    base_first: int
    model_first: int
    wins: tuple[QueryChange, ...] = ()
    losses: tuple[QueryChange, ...] = ()

    @property
    def total(self) -> int:
        """How many queries there are."""
        return self.better + self.same + self.worse


def rows_by_query(rows: Iterable[QueryRow]) -> RowTable:
    """Rows by set and model, then by query."""
    table: RowTable = {}
    for row in rows:
        table.setdefault((row.set, row.model), {})[row.query_id] = row
    return table


def pair_queries(table: RowTable, *, set_name: str, base: str, model: str) -> list[QueryChange]:
    """Every query of a set under two models.

    Args:
        table: see `rows_by_query`; holds both models on the set.
        set_name: the set.
        base: the model that the other is compared with.
        model: the other.

    Raises:
        EvaluationError: the two models have different queries.
    """
    before, after = table[set_name, base], table[set_name, model]
    if before.keys() != after.keys():
        raise EvaluationError(
            f"set {set_name!r}: {base!r} answered {len(before)} queries and {model!r} {len(after)}, not the same "
            "ones; evaluate both on one set"
        )
    return [QueryChange(row, after[query_id]) for query_id, row in before.items()]


def scores_of(changes: Sequence[QueryChange]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """nDCG@10 under the base model and under the other, in the order of the queries."""
    before = np.array([change.before.ndcg_at_10 for change in changes], dtype=np.float64)
    return before, np.array([change.after.ndcg_at_10 for change in changes], dtype=np.float64)


def clusters_of(changes: Sequence[QueryChange]) -> list[str] | None:
    """The clusters of the queries, in their order; None where an earlier version did not say."""
    clusters = [change.before.cluster for change in changes]
    return None if None in clusters else [cluster for cluster in clusters if cluster is not None]


def count_changes(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[int, int]:
    """How many queries rose, and how many fell."""
    return int(np.count_nonzero(after > before + _TIE)), int(np.count_nonzero(after < before - _TIE))


def summarise_changes(changes: Sequence[QueryChange], *, limit: int = 0) -> QueryChanges:
    """How the queries of a set moved from one model to another.

    Args:
        changes: every query of the set, see `pair_queries`; at least one.
        limit: how many of the largest rises and falls to keep.
    """
    better, worse = count_changes(*scores_of(changes))
    by_gain = sorted(changes, key=lambda change: (-change.change, change.before.query_id))
    return QueryChanges(
        set=changes[0].before.set,
        better=better,
        same=len(changes) - better - worse,
        worse=worse,
        base_first=sum(change.before.rank_of_first_relevant == 1 for change in changes),
        model_first=sum(change.after.rank_of_first_relevant == 1 for change in changes),
        wins=tuple(by_gain[: min(limit, better)]),
        losses=tuple(by_gain[::-1][: min(limit, worse)]),
    )


def describe_change(change: QueryChange, text_of: Callable[[str], str | None]) -> list[str]:
    """A query under both models, in a few lines with texts.

    Args:
        change: the query.
        text_of: a document's text by its id; None where it is not at hand.
    """
    before, after = change.before, change.after
    lines = [
        f"{one_line(before.query)!r}: nDCG@10 {before.ndcg_at_10:.2f} → {after.ndcg_at_10:.2f}, "
        f"first answer at {_rank(before)} → {_rank(after)}"
    ]
    if before.relevant_ids:
        lines.append(f"  answer      {_document(before.relevant_ids[0], text_of)}")
    for title, row in (("base's top", before), ("its top", after)):
        if row.top_ids and row.top_ids[0] not in before.relevant_ids:
            lines.append(f"  {title:11} {_document(row.top_ids[0], text_of)}")
    return lines


def _rank(row: QueryRow) -> str:
    return "no rank" if row.rank_of_first_relevant is None else f"rank {row.rank_of_first_relevant}"


def _document(key: str, text_of: Callable[[str], str | None]) -> str:
    text = text_of(key)
    name = one_line(key, 60)
    return f"{name}: {one_line(text, _EXCERPT)}" if text is not None else name
