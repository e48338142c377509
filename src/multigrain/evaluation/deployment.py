"""Which pipeline to deploy, by the one rule of `evaluation.verdict`; see `evaluation.reranked`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from multigrain.display import numbers as figures
from multigrain.evaluation.reranked import Deployment, Pipeline, RerankTable, fastest_of_the_best, table_lines
from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE
from multigrain.evaluation.verdict import Conclusion, Verdict, conclude


def conclude_pipelines(
    table: RerankTable, *, confidence: float, smallest: float = SMALLEST_DIFFERENCE
) -> tuple[Conclusion, ...]:
    """Every pipeline of a table against the reference alone, concluded together.

    Args:
        table: with differences.
        confidence: width of its intervals.
        smallest: the smallest difference that matters, on a scale of 0 to 1.
    """
    result = SetResult(
        name=table.set,
        role="test",
        provenance=None,
        queries=table.queries,
        documents=table.documents,
        models={each.name: ModelScores(each.score, each.metrics) for each in table.pipelines},
        delta={each.name: each.over for each in table.pipelines if each.over is not None},
        clusters=table.clusters,
    )
    return conclude([result], base=table.alone.name, confidence=confidence, smallest=smallest)


def deployment(table: RerankTable, *, confidence: float, smallest: float = SMALLEST_DIFFERENCE) -> Deployment:
    """The pipeline to deploy; see `conclude_pipelines` for the arguments."""
    concluded = conclude_pipelines(table, confidence=confidence, smallest=smallest)
    claimed = {each.model for each in concluded if each.verdict is Verdict.BETTER}
    better = {each.name: each for each in table.pipelines if each.name in claimed}
    alone = table.alone
    if not better:
        return Deployment(
            table.set, alone, f"no other pipeline is shown to be better than its nDCG@10 {figures.score(alone.score)}"
        )
    chosen = fastest_of_the_best(better, smallest)
    best = max(better.values(), key=lambda each: each.score)
    against = "" if chosen.over is None else f" ({figures.interval(chosen.over)} points)"
    more = (
        ""
        if best is chosen
        else f"; {best.name} reaches {figures.score(best.score)}, less than {100 * smallest:g} point more{_took(best)}"
    )
    return Deployment(
        table.set,
        chosen,
        f"nDCG@10 {figures.score(chosen.score)} against {figures.score(alone.score)} of {alone.name} alone{against}"
        f"{_took(chosen)}{_took(alone, 'alone')}{more}",
    )


def reranking_lines(results: EvaluationResults) -> Iterator[str]:
    """Every table and what to deploy, for a terminal."""
    for table in results.reranking:
        yield from table_lines(table)
        yield f"{table.set}: {deployment(table, confidence=results.confidence)}"


def plain_reranking(results: EvaluationResults) -> list[dict[str, Any]]:
    """Every table and what to deploy as JSON-like values."""
    return [
        {
            **asdict(table),
            "pipelines": [{"name": each.name, **asdict(each)} for each in table.pipelines],
            "deploy": _plain(deployment(table, confidence=results.confidence)),
        }
        for table in results.reranking
    ]


def _plain(chosen: Deployment) -> dict[str, Any]:
    each = chosen.pipeline
    return {
        "name": each.name,
        "first_stage": each.first_stage,
        "reranker": each.reranker,
        "depth": each.depth,
        "fused": each.fused,
        "reason": chosen.reason,
    }


def _took(each: Pipeline, word: str = "") -> str:
    if each.milliseconds is None:
        return ""
    return f", {each.milliseconds:,.0f} ms a query{f' {word}' if word else ''}"
