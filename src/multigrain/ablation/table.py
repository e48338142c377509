"""From per-query results of every arm and seed to one table: means, intervals, effect sizes, time and cost.

Scores are paired by query and by seed. With several seeds the interval resamples both, so it tells how surely the
difference holds for other queries and other seeds; the standard deviation between seeds is shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multigrain.evaluation.results import BASE, ModelScores, SetResult
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference, compare_crossed
from multigrain.evaluation.verdict import Conclusion, conclude, conclusion_on

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
        base: the same for its base model or, of a reranker, for the first stage alone.
        seconds: of training and evaluating.
        rows: training rows it had.
        clusters: set name to query id to cluster, see `EvaluationSet.clusters`; a set that is not named has none.
    """

    arm: str
    values: Mapping[str, Any]
    seed: int
    sets: Mapping[str, Scores]
    base: Mapping[str, Scores]
    seconds: float
    rows: int
    clusters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TableRow:
    """One arm.

    Attributes:
        arm: its name.
        values: its varied settings.
        seeds: how many seeds were run.
        seconds: mean seconds a seed.
        rows: training rows.
        deviations: set name to the standard deviation between seeds; empty with one seed.
        chosen: whether validation ranks it first.
    """

    arm: str
    values: Mapping[str, Any]
    seeds: int
    seconds: float
    rows: int
    deviations: Mapping[str, float]
    chosen: bool = False


@dataclass(frozen=True)
class Side:
    """Every arm compared with one side: with the base models, or with the reference arm.

    Attributes:
        sets: every set with every arm's score and difference; scores are means over queries and seeds.
        conclusions: on all sets but validation's; concluded together.
        effect_sizes: set and arm to Cohen's d for paired scores: the mean difference over its standard deviation
            between queries.
    """

    sets: Mapping[str, SetResult]
    conclusions: tuple[Conclusion, ...]
    effect_sizes: Mapping[tuple[str, str], float]

    def difference(self, name: str, arm: str) -> PairedDifference | None:
        """An arm's difference on a set; None where the arm is the other side, or that one was not run."""
        return self.sets[name].delta.get(arm)

    def conclusion(self, name: str, arm: str) -> Conclusion | None:
        """What may be said of an arm on a set; None where nothing is."""
        return conclusion_on(self.conclusions, name, arm)


@dataclass(frozen=True)
class AblationTable:
    """Everything, ready to print.

    Attributes:
        axes: the varied settings.
        from_base: every arm against its base model.
        from_reference: every other arm against the reference arm.
        reference: the reference arm's name.
        rows: the arms that were run, in the matrix's order.
        not_run: arms and seeds that the budget left out.
        confidence: width of the intervals.
        data_seconds: spent on writing and auditing rows, which arms share.
        tokens: that the language model read and wrote.
        cost: of those, in US dollars; None where no prices are set.
        ranked_by: the validation sets that rank the arms, by the mean over sets.
        reranked: of rerankers what is sorted again, in words; empty for embedders.
    """

    axes: tuple[str, ...]
    from_base: Side
    from_reference: Side
    reference: str
    rows: tuple[TableRow, ...]
    not_run: tuple[str, ...]
    confidence: float
    data_seconds: float
    tokens: int
    cost: float | None
    ranked_by: tuple[str, ...] = ()
    reranked: str = ""

    @property
    def baseline(self) -> str:
        """What `from_base` compares with, in words."""
        return "the first stage alone" if self.reranked else "the base model"

    @property
    def sets(self) -> Mapping[str, SetResult]:
        """Every set by name, with every arm's score."""
        return self.from_base.sets

    def score(self, name: str, arm: str) -> float:
        """An arm's nDCG@10 on a set, mean over queries and seeds."""
        return self.sets[name].models[arm].score


def build_table(
    scores: Sequence[ArmScores],
    *,
    axes: Sequence[str],
    sets: Mapping[str, Role],
    reference: str,
    settings: CompareSettings | None = None,
    not_run: Sequence[str] = (),
    data_seconds: float = 0.0,
    tokens: int = 0,
    cost: float | None = None,
    ranked_by: Sequence[str] = (),
    reranked: str = "",
) -> AblationTable:
    """Put the table together.

    Args:
        scores: every arm and seed that was run.
        axes: the varied settings.
        sets: set name to what it is for.
        reference: the reference arm's name.
        settings: how arms are compared; None for the defaults.
        not_run: what the budget left out, in words.
        data_seconds: spent on what arms share.
        tokens: that the language model read and wrote.
        cost: of those.
        ranked_by: the validation sets that rank the arms; none for all of them.
        reranked: see `AblationTable`.

    Raises:
        EvaluationError: arms were scored on different queries.
    """
    settings = settings or CompareSettings()
    ranking = tuple(ranked_by or (name for name, role in sets.items() if role == "validation"))
    by_arm: dict[str, list[ArmScores]] = {}
    for run in scores:
        by_arm.setdefault(run.arm, []).append(run)
    clusters = {name: known for run in scores[:1] for name, known in run.clusters.items() if name in sets}
    results = {
        name: SetResult(
            name=name,
            role=role,
            provenance=None,
            queries=len(scores[0].sets[name]) if scores else 0,
            documents=None,
            models={arm: ModelScores(float(np.mean(_means(runs, name)))) for arm, runs in by_arm.items()},
            delta={},
            clusters=len(set(clusters[name].values())) if name in clusters else None,
        )
        for name, role in sets.items()
    }
    reference_runs = {run.seed: run for run in by_arm.get(reference, [])}
    against_base, against_reference = {}, {}
    for arm, runs in by_arm.items():
        shared = [run for run in runs if run.seed in reference_runs] if arm != reference else []
        for name in sets:
            against_base[name, arm] = [run.base[name] for run in runs], [run.sets[name] for run in runs]
            if shared:
                references = [reference_runs[run.seed].sets[name] for run in shared]
                against_reference[name, arm] = references, [run.sets[name] for run in shared]

    def validation_score(arm: str) -> float:
        return float(np.mean([results[name].models[arm].score for name in ranking]))

    best = max(by_arm, key=validation_score) if ranking and by_arm else None  # of equal ones, the earlier
    return AblationTable(
        axes=tuple(axes),
        from_base=_side(results, BASE, against_base, clusters, settings),
        from_reference=_side(results, reference, against_reference, clusters, settings),
        reference=reference,
        rows=tuple(
            TableRow(
                arm=arm,
                values=runs[0].values,
                seeds=len(runs),
                seconds=float(np.mean([run.seconds for run in runs])),
                rows=runs[0].rows,
                deviations={name: float(np.std(_means(runs, name), ddof=1)) for name in sets if len(runs) > 1},
                chosen=arm == best,
            )
            for arm, runs in by_arm.items()
        ),
        not_run=tuple(not_run),
        confidence=settings.confidence,
        data_seconds=data_seconds,
        tokens=tokens,
        cost=cost,
        ranked_by=ranking,
        reranked=reranked,
    )


def _side(
    results: Mapping[str, SetResult],
    base: str,
    pairs: Mapping[tuple[str, str], tuple[Sequence[Scores], Sequence[Scores]]],
    clusters: Mapping[str, Mapping[str, str]],
    settings: CompareSettings,
) -> Side:
    """Arms compared with one side; pairs hold for set and arm the side's scores and the arm's, one table a seed."""
    delta: dict[str, dict[str, PairedDifference]] = {name: {} for name in results}
    sizes = {}
    for (name, arm), (before, after) in pairs.items():
        left, right = _stacked(before), _stacked(after)
        of_queries = [clusters[name][key] for key in sorted(before[0])] if name in clusters else None
        delta[name][arm] = compare_crossed(left, right, settings, of_queries)
        sizes[name, arm] = effect_size(right.mean(axis=0) - left.mean(axis=0))
    sets = {name: replace(result, delta=delta[name]) for name, result in results.items()}
    return Side(sets, conclude(sets.values(), base=base, confidence=settings.confidence), sizes)


def effect_size(differences: NDArray[np.float64]) -> float:
    """Cohen's d for paired scores; 0 where no query differs."""
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / deviation if deviation > 0 else 0.0


def _means(runs: Sequence[ArmScores], name: str) -> list[float]:
    return [float(np.mean(list(run.sets[name].values()))) for run in runs]


def _stacked(tables: Sequence[Scores]) -> NDArray[np.float64]:
    """(seeds, queries), queries in the order of their ids."""
    return np.array([[table[key] for key in sorted(table)] for table in tables], dtype=np.float64)
