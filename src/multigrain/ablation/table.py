"""From per-query results of every arm and seed to one table: means, intervals, effect sizes, time and cost.

Scores are paired by query and by seed. With several seeds the interval resamples both, so it tells how surely the
difference holds for other queries and other seeds; the spread between seeds is shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.significance import PairedDifference, compare_crossed, holm

__all__ = ["AblationTable", "ArmScores", "Cell", "Effect", "TableRow", "build_table", "effect_size"]

Scores = Mapping[str, float]
"""Query id to nDCG@10."""


@dataclass(frozen=True)
class ArmScores:
    """What one arm came to with one seed.

    Attributes:
        arm: its name.
        values: its varied settings.
        seed: of training.
        sets: set name to query scores.
        base: the same for its base model.
        seconds: of training and evaluating.
        rows: training rows it had.
    """

    arm: str
    values: Mapping[str, Any]
    seed: int
    sets: Mapping[str, Scores]
    base: Mapping[str, Scores]
    seconds: float
    rows: int


@dataclass(frozen=True)
class Effect:
    """A difference between two sides on the same queries.

    Attributes:
        difference: mean over queries, with its interval and uncorrected p-value.
        adjusted_p: p-value corrected (Holm) over all differences of the table of the same kind.
        size: Cohen's d for paired scores: the mean difference over its standard deviation between queries.
    """

    difference: PairedDifference
    adjusted_p: float
    size: float


@dataclass(frozen=True)
class Cell:
    """One arm on one set.

    Attributes:
        ndcg_at_10: mean over queries and seeds.
        seed_spread: standard deviation between seeds; None with one seed.
        from_base: against the base model.
        from_reference: against the reference arm; None for that arm itself, or where it was not run.
    """

    ndcg_at_10: float
    seed_spread: float | None
    from_base: Effect
    from_reference: Effect | None


@dataclass(frozen=True)
class TableRow:
    """One arm.

    Attributes:
        arm: its name.
        values: its varied settings.
        seeds: how many seeds were run.
        cells: set name to figures.
        seconds: mean seconds a seed.
        rows: training rows.
        chosen: whether validation ranks it first.
    """

    arm: str
    values: Mapping[str, Any]
    seeds: int
    cells: Mapping[str, Cell]
    seconds: float
    rows: int
    chosen: bool = False


@dataclass(frozen=True)
class AblationTable:
    """Everything, ready to print.

    Attributes:
        axes: the varied settings.
        sets: set name to what it is for.
        queries: set name to how many queries it has.
        reference: the reference arm's name.
        rows: the arms that were run, in the matrix's order.
        not_run: arms and seeds that the budget left out.
        confidence: width of the intervals.
        data_seconds: spent on writing and auditing rows, which arms share.
        tokens: that the language model read and wrote.
        cost: of those, in US dollars; None where no prices are set.
        ranked_by: the validation sets that rank the arms, by the mean over sets.
    """

    axes: tuple[str, ...]
    sets: Mapping[str, Role]
    queries: Mapping[str, int]
    reference: str
    rows: tuple[TableRow, ...]
    not_run: tuple[str, ...]
    confidence: float
    data_seconds: float
    tokens: int
    cost: float | None
    ranked_by: tuple[str, ...] = ()


def build_table(
    scores: Sequence[ArmScores],
    *,
    axes: Sequence[str],
    sets: Mapping[str, Role],
    reference: str,
    not_run: Sequence[str] = (),
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 13,
    data_seconds: float = 0.0,
    tokens: int = 0,
    cost: float | None = None,
    ranked_by: Sequence[str] = (),
) -> AblationTable:
    """Put the table together.

    Args:
        scores: every arm and seed that was run.
        axes: the varied settings.
        sets: set name to what it is for.
        reference: the reference arm's name.
        not_run: what the budget left out, in words.
        samples: resamples behind each interval.
        confidence: width of the intervals.
        seed: of the resampling.
        data_seconds: spent on what arms share.
        tokens: that the language model read and wrote.
        cost: of those.
        ranked_by: the validation sets that rank the arms; none for all of them.

    Raises:
        EvaluationError: arms were scored on different queries.
    """
    ranking = tuple(ranked_by or (name for name, role in sets.items() if role == "validation"))
    by_arm: dict[str, list[ArmScores]] = {}
    for each in scores:
        by_arm.setdefault(each.arm, []).append(each)

    def compared(name: str, before: Sequence[Scores], after: Sequence[Scores]) -> Effect:
        left, right = _stacked(before), _stacked(after)
        found = compare_crossed(left, right, samples=samples, confidence=confidence, seed=seed)
        return Effect(found, found.p_value, effect_size(right.mean(axis=0) - left.mean(axis=0)))

    anchors = {run.seed: run for run in by_arm.get(reference, [])}
    rows = []
    for arm, runs in by_arm.items():
        shared = [run for run in runs if run.seed in anchors] if arm != reference else []
        cells = {}
        for name in sets:
            means = [float(np.mean(list(run.sets[name].values()))) for run in runs]
            cells[name] = Cell(
                ndcg_at_10=float(np.mean(means)),
                seed_spread=float(np.std(means, ddof=1)) if len(means) > 1 else None,
                from_base=compared(name, [run.base[name] for run in runs], [run.sets[name] for run in runs]),
                from_reference=compared(
                    name, [anchors[run.seed].sets[name] for run in shared], [run.sets[name] for run in shared]
                )
                if shared
                else None,
            )
        seconds = float(np.mean([run.seconds for run in runs]))
        rows.append(TableRow(arm, runs[0].values, len(runs), cells, seconds, runs[0].rows))
    return AblationTable(
        axes=tuple(axes),
        sets=dict(sets),
        queries={name: len(scores[0].sets[name]) for name in sets} if scores else {},
        reference=reference,
        rows=tuple(_marked(_corrected(rows, sets), ranking)),
        not_run=tuple(not_run),
        confidence=confidence,
        data_seconds=data_seconds,
        tokens=tokens,
        cost=cost,
        ranked_by=ranking,
    )


def effect_size(differences: NDArray[np.float64]) -> float:
    """Cohen's d for paired scores; 0 where no query differs."""
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / spread if spread > 0 else 0.0


def _stacked(tables: Sequence[Scores]) -> NDArray[np.float64]:
    """(seeds, queries), queries in the order of their ids."""
    return np.array([[table[key] for key in sorted(table)] for table in tables], dtype=np.float64)


def _corrected(rows: Sequence[TableRow], sets: Mapping[str, Role]) -> list[TableRow]:
    """Correct p-values over all test and forgetting sets of all arms; validation ranks, and claims nothing."""
    judged = [name for name, role in sets.items() if role != "validation"]
    base = {f"{row.arm}|{name}": row.cells[name].from_base for row in rows for name in judged}
    anchored = {
        f"{row.arm}|{name}": effect
        for row in rows
        for name in judged
        if (effect := row.cells[name].from_reference) is not None
    }
    adjusted_base = holm({key: each.difference.p_value for key, each in base.items()})
    adjusted_anchor = holm({key: each.difference.p_value for key, each in anchored.items()})
    done = []
    for row in rows:
        cells = dict(row.cells)
        for name in judged:
            key, cell = f"{row.arm}|{name}", cells[name]
            from_reference = cell.from_reference
            if from_reference is not None:
                from_reference = replace(from_reference, adjusted_p=adjusted_anchor[key])
            cells[name] = replace(
                cell,
                from_base=replace(cell.from_base, adjusted_p=adjusted_base[key]),
                from_reference=from_reference,
            )
        done.append(replace(row, cells=cells))
    return done


def _marked(rows: Sequence[TableRow], ranking: Sequence[str]) -> list[TableRow]:
    """Mark the arm that validation ranks first; of equal ones, the earlier."""
    if not ranking or not rows:
        return list(rows)
    best = max(rows, key=lambda row: float(np.mean([row.cells[name].ndcg_at_10 for name in ranking])))
    return [replace(row, chosen=row is best) for row in rows]
