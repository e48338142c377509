"""Two-step search: what a first stage finds, sorted again by a reranker. The records, and which pair to deploy.

A pipeline is a first stage alone, or one with a reranker over its first so many documents, in the reranker's order or
in one that joins both orders. Which one to deploy follows
from the one rule of all claims (`evaluation.verdict`), over every pipeline of a set against the reference, the run's
embedder alone:

- Of the pipelines that are better than the reference, the fastest within `smallest` of the best of them.
- The reference alone, where none is better.

The test queries that judge also choose among pipelines; the correction (Holm) allows for their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from multigrain.display import numbers as figures
from multigrain.evaluation.significance import PairedDifference


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A first stage, alone or under a reranker, on one set.

    Attributes:
        first_stage: what finds documents: a model, bm25, or hybrid.
        reranker: what sorts them again; empty for nothing.
        depth: how many documents of each query are sorted again; 0 for none.
        fused: whether they are sorted by the ranks that the first stage and the reranker give them (reciprocal rank
            fusion), and not by the reranker's scores alone.
        score: nDCG@10, mean over queries, 0 to 1.
        metrics: the other metrics by name.
        over: score minus the reference's, paired by query; None for the reference itself.
        milliseconds: of one query, one at a time, on the machine at hand: the median of a few; None where it was not
            measured.
    """

    first_stage: str
    reranker: str
    depth: int
    score: float
    metrics: Mapping[str, float]
    over: PairedDifference | None
    milliseconds: float | None = None
    fused: bool = False

    @property
    def name(self) -> str:
        """What tables call it."""
        if not self.reranker:
            return self.first_stage
        return f"{self.first_stage} + {self.reranker}, {self.sorted_again}"

    @property
    def sorted_again(self) -> str:
        """How many documents of each query, and how: "30" or "30, fused"."""
        return f"{self.depth}{', fused' if self.fused else ''}"


@dataclass(frozen=True, slots=True)
class RerankTable:
    """Every pipeline on one set.

    Attributes:
        set: the set's name.
        queries: how many were asked: a sample of the set's, where it has many.
        clusters: how many clusters they form.
        documents: how many are searched.
        reference: the first stage that all pipelines are compared with.
        pipelines: first stages alone first.
    """

    set: str
    queries: int
    clusters: int
    documents: int
    reference: str
    pipelines: tuple[Pipeline, ...]

    @property
    def alone(self) -> Pipeline:
        """The reference."""
        return next(each for each in self.pipelines if not each.reranker and each.first_stage == self.reference)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The pipeline to deploy, and why.

    Attributes:
        set: on which set's evidence.
        pipeline: what to deploy.
        reason: in a sentence with figures.
    """

    set: str
    pipeline: Pipeline
    reason: str

    def __str__(self) -> str:
        return f"deploy {self.pipeline.name}: {self.reason}"


def fastest_of_the_best(better: Mapping[str, Pipeline], smallest: float) -> Pipeline:
    """Of pipelines that are better than the reference, the fastest that loses less than `smallest` on the best.

    Args:
        better: by name, at least one.
        smallest: the smallest difference that matters, on a scale of 0 to 1.
    """
    best = max(each.score for each in better.values())
    enough = [each for each in better.values() if best - each.score < smallest]

    def cost(each: Pipeline) -> tuple[float, int, float]:
        return (math.inf if each.milliseconds is None else each.milliseconds, each.depth, -each.score)

    return min(enough, key=cost)


def timed(
    table: RerankTable, alone: Mapping[str, float | None], reranked: Mapping[tuple[str, int], float]
) -> RerankTable:
    """A table with the times of its pipelines.

    Args:
        table: without them.
        alone: milliseconds of each first stage.
        reranked: milliseconds of each reranker at each depth.
    """

    def milliseconds(each: Pipeline) -> float | None:
        first = alone.get(each.first_stage)
        second = reranked.get((each.reranker, each.depth)) if each.reranker else 0.0
        return None if first is None or second is None else first + second

    return replace(table, pipelines=tuple(replace(each, milliseconds=milliseconds(each)) for each in table.pipelines))


def read_reranking(values: Iterable[Mapping[str, Any]]) -> tuple[RerankTable, ...]:
    """Tables from what `deployment.plain_reranking` made of them.

    Raises:
        ValueError, KeyError, TypeError: they are something else.
    """
    return TypeAdapter(tuple[RerankTable, ...]).validate_python(list(values))


def table_lines(table: RerankTable) -> Iterator[str]:
    """A table for a terminal: a line a pipeline."""
    clusters = "" if table.clusters == table.queries else f" in {table.clusters:,} clusters"
    yield (
        f"{table.set}: {table.queries:,} queries{clusters}, {table.documents:,} documents; nDCG@10, points against "
        f"{table.reference} alone, milliseconds a query"
    )
    for each in table.pipelines:
        over = "" if each.over is None else f"  {figures.interval(each.over)}"
        took = "" if each.milliseconds is None else f"  {each.milliseconds:,.1f} ms"
        yield f"  {each.name}  {figures.score(each.score)}{over}{took}"
