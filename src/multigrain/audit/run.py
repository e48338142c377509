"""The audit of a set of written rows: from what a model wrote to rows whose levels were measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multigrain.audit.checks import Problem, check_negative, check_query
from multigrain.audit.levels import MinedPick, WrittenPick, pick_negatives
from multigrain.config import AuditConfig
from multigrain.mining.bands import rank_corpus, scale_bands
from multigrain.mining.search import Floats
from multigrain.records import (
    LEVELS,
    Document,
    GradedExample,
    Level,
    Negative,
    Origin,
    Rejection,
    SynthesizedRow,
    answering_ids,
)
from multigrain.sources.grouping import normalise

__all__ = ["AuditResult", "Embed", "audit_rows"]

Embed = Callable[[Sequence[str]], Floats]
"""Turns texts into (n, d) L2-normalised vectors."""


@dataclass(frozen=True)
class AuditResult:
    """What the audit kept, and what it turned away.

    Attributes:
        examples: rows with four measured levels, in the order they came in.
        rejections: rows and single negatives that were turned away, each with a reason.
        written_candidates: how many written negatives were looked at.
    """

    examples: tuple[GradedExample, ...]
    rejections: tuple[Rejection, ...]
    written_candidates: int


def audit_rows(
    rows: Sequence[SynthesizedRow],
    pool: Sequence[Document],
    config: AuditConfig,
    *,
    embed_queries: Embed,
    embed_passages: Embed,
    pool_vectors: Floats,
    seed: int,
) -> AuditResult:
    """Check, measure, level and complete written rows.

    Args:
        rows: what was written.
        pool: documents that negatives may be mined from; they must hold every row's own document.
        config: checks and limits.
        embed_queries: the reference model's query side.
        embed_passages: the reference model's passage side.
        pool_vectors: (len(pool), d) the reference vectors of the pool.
        seed: decides which members of a band are drawn.
    """
    sound, rejections = _check_texts(rows, config)
    if not sound:
        return AuditResult((), tuple(rejections), sum(len(row.negatives) for row in rows))
    place = {document.id: index for index, document in enumerate(pool)}
    groups = [document.group for document in pool]
    vectors = _measure(sound, embed_queries, embed_passages)
    bands = scale_bands(config.bands, len(pool) - 1)
    rankings = rank_corpus(
        vectors.queries,
        pool_vectors,
        groups,
        [{groups[place[each]] for each in answering_ids(row) if each in place} for row in sound],
        depth=max(bands[0][1], (config.round_trip_rank or 0) + 1),
    )
    examples = []
    for row, ranking, query_vector, positive_vector in zip(
        sound, rankings, vectors.queries, vectors.positives, strict=True
    ):
        similarity = float(query_vector @ positive_vector)
        rank = int(np.searchsorted(-ranking.similarities, -similarity, side="left"))
        if config.round_trip_rank is not None and rank >= config.round_trip_rank:
            detail = f"{rank} documents are nearer than its own"
            rejections.append(_reject(row, Problem("round_trip", detail)))
            continue
        candidates, refused = _written_candidates(row, vectors.negatives, query_vector, similarity, config)
        picks = pick_negatives(
            candidates,
            ranking,
            bands,
            sources=config.negatives,
            ceiling=similarity - config.false_negative_margin,
            gap=config.min_level_gap,
            seed=f"{seed}:{row.id}",
        )
        if len(picks) < len(LEVELS):
            missing = ", ".join(str(int(level)) for level in LEVELS if level not in picks)
            rejections.append(_reject(row, Problem("no_negative", f"nothing fits level {missing}")))
            continue
        rejections.extend(refused)
        rejections.extend(_unplaced(row, candidates, picks))
        examples.append(_example(row, similarity, picks, pool, vectors.negatives, query_vector))
    return AuditResult(tuple(examples), tuple(rejections), sum(len(row.negatives) for row in rows))


@dataclass(frozen=True)
class _Vectors:
    queries: Floats
    positives: Floats
    negatives: Mapping[str, Floats]


def _check_texts(rows: Sequence[SynthesizedRow], config: AuditConfig) -> tuple[list[SynthesizedRow], list[Rejection]]:
    sound, rejections = [], []
    seen: dict[str, str] = {}
    for row in rows:
        problem = check_query(row.query, row.positive, config)
        key = normalise(row.query)
        # A given query with several positives has a row for each.
        if problem is None and key in seen and seen[key] not in row.relevant_ids:
            problem = Problem("duplicate_query", "another row has the same query")
        if problem is not None:
            rejections.append(_reject(row, problem))
            continue
        seen[key] = answering_ids(row)[0]
        sound.append(row)
    return sound, rejections


def _measure(rows: Sequence[SynthesizedRow], embed_queries: Embed, embed_passages: Embed) -> _Vectors:
    texts = sorted({text for row in rows for text in row.negatives.values() if text.strip()})
    negatives = dict(zip(texts, embed_passages(texts), strict=True)) if texts else {}
    return _Vectors(
        queries=embed_queries([row.query for row in rows]),
        positives=embed_passages([row.positive for row in rows]),
        negatives=negatives,
    )


def _written_candidates(
    row: SynthesizedRow, vectors: Mapping[str, Floats], query: Floats, positive_similarity: float, config: AuditConfig
) -> tuple[list[WrittenPick], list[Rejection]]:
    candidates: list[WrittenPick] = []
    refused = []
    seen: set[str] = set()
    for level, text in sorted(row.negatives.items(), reverse=True):
        problem = check_negative(text, row.query, row.positive, config)
        if problem is None and normalise(text) in seen:
            problem = Problem("repeated", "another level of the row has the same text")
        if problem is None:
            seen.add(normalise(text))
            similarity = float(query @ vectors[text])
            if similarity <= positive_similarity - config.false_negative_margin:
                candidates.append(WrittenPick(text, level, similarity))
                continue
            problem = Problem("false_negative", f"similarity {similarity:.2f}, its positive {positive_similarity:.2f}")
        refused.append(_reject(row, problem, level))
    return candidates, refused


def _unplaced(
    row: SynthesizedRow, candidates: Sequence[WrittenPick], picks: Mapping[Level, WrittenPick | MinedPick]
) -> Iterator[Rejection]:
    placed = list(picks.values())
    for candidate in candidates:
        if candidate not in placed:
            detail = f"similarity {candidate.similarity:.2f} falls in no free level"
            yield _reject(row, Problem("no_level", detail), candidate.asked)


def _reject(row: SynthesizedRow, problem: Problem, level: Level | None = None) -> Rejection:
    return Rejection(
        id=row.id,
        part="row" if level is None else f"level_{int(level)}",
        reason=problem.reason,
        detail=problem.detail,
        query=row.query,
        text=row.positive if level is None else row.negatives[level],
    )


def _example(
    row: SynthesizedRow,
    positive_similarity: float,
    picks: Mapping[Level, WrittenPick | MinedPick],
    pool: Sequence[Document],
    vectors: Mapping[str, Floats],
    query: Floats,
) -> GradedExample:
    negatives, actions = [], []
    for level in LEVELS:
        pick = picks[level]
        if isinstance(pick, WrittenPick):
            negatives.append(Negative(pick.text, level, Origin.WRITTEN, pick.similarity, pick.asked))
            if pick.asked != level:
                actions.append(f"relevelled:{int(pick.asked)}>{int(level)}")
        else:
            negatives.append(Negative(pool[pick.index].text, level, Origin.MINED, pick.similarity))
            if row.negatives:
                actions.append(f"refilled:{int(level)}")
    easiest, low, high, hardest = negatives
    return GradedExample(
        id=row.id,
        document_id=row.document_id,
        query=row.query,
        positive=row.positive,
        negatives=(easiest, low, high, hardest),
        positive_similarity=positive_similarity,
        written_order_held=_order_held(row, vectors, query, positive_similarity),
        actions=tuple(actions),
    )


def _order_held(
    row: SynthesizedRow, vectors: Mapping[str, Floats], query: Floats, positive_similarity: float
) -> bool | None:
    """Whether the four levels as written rise strictly and stay below the positive, under the reference."""
    texts = [row.negatives.get(level, "") for level in LEVELS]
    if not all(text in vectors for text in texts):
        return None
    rising = [float(query @ vectors[text]) for text in texts] + [positive_similarity]
    return all(left < right for left, right in itertools.pairwise(rising))
