"""What the page shows of two-step search: a row a pipeline, and quality over the time of a query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multigrain.display import numbers as show
from multigrain.evaluation.deployment import conclude_pipelines, deployment
from multigrain.evaluation.reranked import Deployment, Pipeline, RerankTable
from multigrain.evaluation.results import EvaluationResults
from multigrain.evaluation.verdict import Conclusion, conclusion_on
from multigrain.report.charts import Axis
from multigrain.report.headline import tone_of

_TICKS: Final = tuple(factor * 10.0**power for power in range(-2, 6) for factor in (1, 2, 5))


@dataclass(frozen=True, slots=True)
class PipelineRow:
    """A line of the table, and a dot of the figure.

    Attributes:
        number: from 1; beside the dot.
        pipeline: what was scored.
        conclusion: against the reference; None for the reference itself.
        deployed: whether it is the one to deploy.
        x: of the dot, in percent of the width; None where no time was taken.
        y: of the dot, in percent of the height, upwards.
    """

    number: int
    pipeline: Pipeline
    conclusion: Conclusion | None
    deployed: bool
    x: float | None
    y: float

    @property
    def tone(self) -> str:
        """better, worse or unclear."""
        return tone_of(self.conclusion)


@dataclass(frozen=True, slots=True)
class PipelinesShown:
    """One set's pipelines.

    Attributes:
        table: as it was measured.
        rows: in its order.
        deploy: what to deploy, and why.
        times: positions in percent of the width, with what stands there.
        scores: likewise upwards.
        lines: for each first stage, reranker and order the dots of rising depth, as (x, y) in percent.
    """

    table: RerankTable
    rows: tuple[PipelineRow, ...]
    deploy: Deployment
    times: tuple[tuple[float, str], ...]
    scores: tuple[tuple[float, str], ...]
    lines: tuple[tuple[tuple[float, float], ...], ...]

    @property
    def is_timed(self) -> bool:
        """Whether there is a figure to draw."""
        return any(row.x is not None for row in self.rows)


def shown_pipelines(results: EvaluationResults) -> tuple[PipelinesShown, ...]:
    """Every set's pipelines, laid out."""
    return tuple(_laid_out(table, results.confidence) for table in results.reranking)


def _laid_out(table: RerankTable, confidence: float) -> PipelinesShown:
    concluded = conclude_pipelines(table, confidence=confidence)
    chosen = deployment(table, confidence=confidence)
    times = [each.milliseconds for each in table.pipelines if each.milliseconds]
    low, high = min(times, default=1.0), max(times, default=10.0)
    width = Axis(math.log10(low) - 0.08, math.log10(high) + 0.08)
    scores = [each.score for each in table.pipelines]
    room = max(0.12 * (max(scores) - min(scores)), 0.005)
    height = Axis(min(scores) - room, max(scores) + room)
    rows = tuple(
        PipelineRow(
            number=number,
            pipeline=each,
            conclusion=conclusion_on(concluded, table.set, each.name),
            deployed=each == chosen.pipeline,
            x=width.at(math.log10(each.milliseconds)) if each.milliseconds else None,
            y=height.at(each.score),
        )
        for number, each in enumerate(table.pipelines, 1)
    )
    ticks = [tick for tick in _TICKS if width.low <= math.log10(tick) <= width.high]
    return PipelinesShown(
        table=table,
        rows=rows,
        deploy=chosen,
        times=tuple((width.at(math.log10(tick)), f"{tick:g} ms") for tick in ticks),
        scores=tuple((height.at(tick), show.score(tick)) for tick in height.ticks(4)),
        lines=tuple(_lines(rows)),
    )


def _lines(rows: Sequence[PipelineRow]) -> list[tuple[tuple[float, float], ...]]:
    """The dots of each first stage under each reranker, fused or not, from the first stage alone to the deepest."""
    own_of: dict[tuple[str, str, bool], list[PipelineRow]] = {}
    for row in rows:
        if row.pipeline.reranker:
            key = (row.pipeline.first_stage, row.pipeline.reranker, row.pipeline.fused)
            own_of.setdefault(key, []).append(row)
    lines = []
    for (first, *_), again in own_of.items():
        own = [row for row in rows if row.pipeline.first_stage == first and not row.pipeline.reranker] + again
        own.sort(key=lambda row: row.pipeline.depth)
        lines.append(tuple((row.x, row.y) for row in own if row.x is not None))
    return lines
