"""Score two-step search: rankings of first stages, sorted again by rerankers at several depths, and what they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final, TypeVar

from multigrain.evaluation.reranked import Pipeline, RerankTable
from multigrain.evaluation.retrieval import Retriever, SetScores, rank_documents, reciprocal_ranks, score_ranking
from multigrain.evaluation.significance import compare_paired

if TYPE_CHECKING:  # they load torch
    from multigrain.evaluation.sets.retrieval_set import EvaluationSet
    from multigrain.evaluation.settings import CompareSettings

T = TypeVar("T")
Pair = tuple[str, str]
Ranking = Mapping[str, Sequence[str]]
"""Query id to document ids, best first."""
PairScorer = Callable[[Sequence[Pair]], Sequence[float]]
"""Scores (query, passage) pairs: the higher, the better the passage answers."""

_PAIRS: Final = 2_048  # scored between two signs of life
_TIMED: Final = 6  # queries whose time is taken


@dataclass(frozen=True)
class FirstStage:
    """What finds documents.

    Attributes:
        name: what tables call it.
        retriever: ranks them.
        ask: answers one query as a service does; None where that is not timed.
    """

    name: str
    retriever: Retriever
    ask: Callable[[str], object] | None = None


@dataclass(frozen=True)
class Reranker:
    """What sorts them again.

    Attributes:
        name: what tables call it.
        scores: of any number of pairs; may keep them.
        ask: scores the pairs of one query as a service does, keeping nothing; None where that is not timed.
    """

    name: str
    scores: PairScorer
    ask: PairScorer | None = None


@dataclass
class ScoredPairs:
    """The scores of pairs of one set, each asked for once, however many rankings hold it.

    Attributes:
        chosen: the set.
        scores: see `Reranker.scores`.
        known: query id and document id to score.
    """

    chosen: EvaluationSet
    scores: PairScorer
    known: dict[Pair, float] = field(default_factory=dict)

    def add(
        self, rankings: Iterable[Ranking], depth: int, on_pairs: Callable[[int], None] = lambda count: None
    ) -> None:
        """Score the first documents of rankings.

        Args:
            rankings: whose.
            depth: how many of each query.
            on_pairs: told how many pairs were scored.
        """
        wanted = dict.fromkeys(
            (query, document)
            for ranking in rankings
            for query, documents in ranking.items()
            for document in documents[:depth]
        )
        missing = [pair for pair in wanted if pair not in self.known]
        for start in range(0, len(missing), _PAIRS):
            chunk = missing[start : start + _PAIRS]
            texts = [(self.chosen.queries[query], self.chosen.corpus[document]) for query, document in chunk]
            self.known.update(zip(chunk, map(float, self.scores(texts)), strict=True))
            on_pairs(len(chunk))

    def sort(self, ranking: Ranking, depth: int, *, fused: bool = False) -> dict[str, list[str]]:
        """A ranking whose first documents are sorted by their scores; equal ones stay in the first stage's order.

        Args:
            ranking: a first stage's.
            depth: how many documents of each query.
            fused: join both orders by `reciprocal_ranks`.
        """
        return {
            query: [*self._sorted(query, documents[:depth], fused), *documents[depth:]]
            for query, documents in ranking.items()
        }

    def _sorted(self, query: str, found: Sequence[str], fused: bool) -> list[str]:
        again = sorted(found, key=lambda document: -self.known[query, document])
        if not fused:
            return again
        scores = reciprocal_ranks([found, again])
        return sorted(found, key=lambda document: -scores[document])


def rerank(scores: PairScorer, ranking: Ranking, chosen: EvaluationSet, depth: int) -> SetScores:
    """Sort the first documents of a ranking again, and score what comes out.

    Args:
        scores: of pairs.
        ranking: the first stage's.
        chosen: the set.
        depth: how many documents of each query.
    """
    pairs = ScoredPairs(chosen, scores)
    pairs.add([ranking], depth)
    return score_ranking(pairs.sort(ranking, depth), chosen)


def rank_first(retriever: Retriever, chosen: EvaluationSet, depth: int) -> dict[str, list[str]]:
    """What a first stage finds for each query of a set: so many documents, and ten at least."""
    return rank_documents(retriever, chosen, max(depth, 10))


def measure_pipelines(
    rankings: Mapping[str, Ranking],
    rerankers: Sequence[Reranker],
    chosen: EvaluationSet,
    depths: Sequence[int],
    settings: CompareSettings,
    *,
    reference: str,
    on_pairs: Callable[[int], None] = lambda count: None,
    on_scores: Callable[[str, SetScores], None] = lambda name, scores: None,
) -> RerankTable:
    """Score every first stage on one set, alone and under every reranker at every depth, in its order and in both's.

    Args:
        rankings: first stage to its ranking, as deep as the largest depth.
        rerankers: which.
        chosen: the set.
        depths: how many documents of each query are sorted again.
        settings: how to compare.
        reference: the first stage that all are compared with.
        on_pairs: told how many pairs were scored.
        on_scores: given the scores of every pipeline, by its name in the table.
    """
    scored: list[tuple[str, str, int, bool, SetScores]] = [
        (name, "", 0, False, score_ranking(ranking, chosen)) for name, ranking in rankings.items()
    ]
    for reranker in rerankers:
        pairs = ScoredPairs(chosen, reranker.scores)
        pairs.add(rankings.values(), max(depths), on_pairs)
        scored += [
            (name, reranker.name, depth, fused, score_ranking(pairs.sort(ranking, depth, fused=fused), chosen))
            for name, ranking in rankings.items()
            for depth in sorted(set(depths))
            for fused in (False, True)
        ]
    alone = next(scores.ndcg_by_query for name, other, *_, scores in scored if name == reference and not other)
    table = RerankTable(
        set=chosen.name,
        queries=len(chosen.queries),
        clusters=len(set(chosen.clusters)),
        documents=len(chosen.corpus),
        reference=reference,
        pipelines=tuple(
            Pipeline(
                first_stage=name,
                reranker=other,
                depth=depth,
                fused=fused,
                score=scores.ndcg_at_10,
                metrics=scores.metrics,
                over=None
                if name == reference and not other
                else compare_paired(alone, scores.ndcg_by_query, settings, chosen.clusters),
            )
            for name, other, depth, fused, scores in scored
        ),
    )
    for pipeline, (*_, scores) in zip(table.pipelines, scored, strict=True):
        on_scores(pipeline.name, scores)
    return table


def time_first_stage(stage: FirstStage, chosen: EvaluationSet) -> float | None:
    """Milliseconds that a query takes, one at a time; see `_median`. None for a stage that is not timed."""
    if stage.ask is None:
        return None
    return _median(stage.ask, [chosen.queries[query] for query in _timed(chosen)])


def time_rerankers(
    rerankers: Sequence[Reranker], ranking: Ranking, chosen: EvaluationSet, depths: Sequence[int]
) -> dict[tuple[str, int], float]:
    """Milliseconds that sorting a query's documents takes, one query at a time; see `_median`.

    Args:
        rerankers: which; those that are not timed are left out.
        ranking: a first stage's, whose documents are sorted.
        chosen: the set.
        depths: how many documents of each query.

    Returns:
        By reranker and depth.
    """
    times = {}
    for reranker in rerankers:
        for depth in sorted(set(depths)) if reranker.ask is not None else ():
            lists = [
                [(chosen.queries[query], chosen.corpus[document]) for document in ranking[query][:depth]]
                for query in _timed(chosen)
            ]
            if reranker.ask is not None:
                times[reranker.name, depth] = _median(reranker.ask, lists)
    return times


def _timed(chosen: EvaluationSet) -> list[str]:
    return list(chosen.queries)[: _TIMED + 1]


def _median(ask: Callable[[T], object], asked: Sequence[T]) -> float:
    """The median time of calls in milliseconds; the first warms up where there are several."""
    times = []
    for each in asked:
        started = time.perf_counter()
        ask(each)
        times.append(1_000 * (time.perf_counter() - started))
    return median(times[1:] or times)
