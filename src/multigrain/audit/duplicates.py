"""The checks of rows beside each other: queries and written positives that another row has already, or as good as."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import numpy as np

from multigrain.audit.check import Problem
from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats
from multigrain.records import SynthesizedRow, answering_ids
from multigrain.sources.grouping import near_duplicate_groups
from multigrain.sources.words import fold_repeated, fold_words

_LABEL_WORDS: Final = 8
_COMPARED: Final = 200_000
_BLOCK: Final = 512
_TILE: Final = 8_192

Embed = Callable[[Sequence[str]], Floats]
"""Turns texts into (n, d) vectors of length 1."""


def same_queries(rows: Sequence[SynthesizedRow], places: Sequence[int], config: AuditConfig) -> dict[int, Problem]:
    """Rows to turn away because an earlier one has the same query; by their place.

    A given query with several positives has a row for each, and all of them stay.

    Args:
        rows: in order: the first of several stays. Gone through a few times and not kept: they may lie in a file.
        places: of the rows to look at, rising.
        config: not looked at.
    """
    del config
    first_of: dict[bytes, int] = {}
    pairs = []
    for place, row in _at(rows, places):
        first = first_of.setdefault(hashlib.blake2b(fold_repeated(row.query).encode(), digest_size=16).digest(), place)
        if first != place:
            pairs.append((place, first))
    problem = Problem("duplicate_query", "another row has the same query")
    return {place: problem for place, _ in _strangers(rows, pairs)}


def near_duplicates(rows: Sequence[SynthesizedRow], places: Sequence[int], config: AuditConfig) -> dict[int, Problem]:
    """Rows to turn away because an earlier one has nearly the same query or written positive; by their place.

    Positives are compared where a language model wrote them: rows for one document share its text by design.

    Args:
        rows: as `same_queries` takes them.
        places: of the rows to look at, rising.
        config: how near is nearly.
    """
    problems: dict[int, Problem] = {}
    # Many queries may rightly share a label, a name or a headline.
    sentences = (
        (place, row) for place, row in _at(rows, places) if len(fold_words(row.positive).split()) >= _LABEL_WORDS
    )
    written = [place for place, row in sentences if row.document_id is None]
    sides: tuple[tuple[Sequence[int], Literal["query", "positive"]], ...] = ((places, "query"), (written, "positive"))
    for looked_at, side in sides:
        texts = (row.query if side == "query" else row.positive for _, row in _at(rows, looked_at))
        groups = near_duplicate_groups(texts, config.near_duplicate_similarity)
        pairs = [
            (looked_at[own], looked_at[group])
            for own, group in enumerate(groups)
            if own != group and looked_at[own] not in problems
        ]
        for place, earlier in _strangers(rows, pairs):
            problems[place] = Problem("near_duplicate", f"its {side} is nearly that of row {earlier}")
    return problems


def same_meaning(
    rows: Sequence[SynthesizedRow], places: Sequence[int], config: AuditConfig, encode: Embed
) -> dict[int, Problem]:
    """Rows to turn away because an earlier one asks the same in other words; by their place.

    Every query is compared with those that stay among up to 200,000 before it. Queries that are the same to the
    letter are one: by now they are one query's rows for several documents. Given queries stay.

    Args:
        rows: as `same_queries` takes them.
        places: of the rows to look at, rising.
        config: how similar is the same.
        encode: the reference model's query side: (n, d) vectors of length 1.
    """
    if config.max_query_similarity is None or not config.checks.near_duplicates:
        return {}
    places_of: dict[str, list[int]] = {}
    for place, row in _at(rows, places):
        if not row.given:
            places_of.setdefault(row.query, []).append(place)
    queries = list(places_of)
    problems: dict[int, Problem] = {}
    for start in range(0, len(queries), _COMPARED):
        part = queries[start : start + _COMPARED]
        vectors = encode(part)
        for own, (first, similarity) in _repeats(vectors, cosine_of(config.max_query_similarity, vectors)).items():
            detail = f"similarity {similarity:.2f} to {part[first]!r}"
            problems |= {place: Problem("same_meaning", detail) for place in places_of[part[own]]}
    return problems


def cosine_of(similarity: float, vectors: Floats) -> float:
    """The cosine that a similarity stands for where two queries of the run are at 0 on average, and equal ones at 1.

    Encoders differ in how near to each other they put texts that have nothing in common: at .1, or at .8.

    Args:
        similarity: 0 to 1.
        vectors: (n, d) the queries', of length 1.
    """
    count = len(vectors)
    if count < 2:
        return similarity
    total = vectors.astype(np.float64).sum(axis=0)
    mean = float(max(0.0, (total @ total - count) / (count * (count - 1))))
    return mean + similarity * (1 - mean)


def _repeats(vectors: Floats, limit: float) -> dict[int, tuple[int, float]]:
    """Vectors that are nearer than a limit to an earlier one that stays: that one's number, and how near it is."""
    repeats: dict[int, tuple[int, float]] = {}
    stays = np.ones(len(vectors), dtype=bool)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        nearest: dict[int, tuple[int, float]] = {}
        for first in range(0, start, _TILE):  # by now it is known which of these stay
            part = slice(first, min(first + _TILE, start))
            scores = block @ vectors[part].T
            near = (scores > limit) & stays[part]
            for row in np.flatnonzero(near.any(axis=1)).tolist():
                place = int(near[row].argmax())
                nearest.setdefault(row, (first + place, float(scores[row, place])))
        scores = block @ block.T
        for row in range(len(block)):
            if row not in nearest:
                earlier = np.flatnonzero(stays[start : start + row] & (scores[row, :row] > limit))
                if not len(earlier):
                    continue
                nearest[row] = start + int(earlier[0]), float(scores[row, earlier[0]])
            stays[start + row] = False
            repeats[start + row] = nearest[row]
    return repeats


def _at(rows: Sequence[SynthesizedRow], places: Iterable[int]) -> Iterator[tuple[int, SynthesizedRow]]:
    """Rows at rising places, read in one go."""
    coming = iter(places)
    following = next(coming, None)
    for place, row in enumerate(rows if following is not None else ()):
        if place == following:
            yield place, row
            following = next(coming, None)
            if following is None:
                return


def _strangers(rows: Sequence[SynthesizedRow], pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """Of pairs of rows (later, earlier) those that are not one query's: the later's place, the earlier's id."""
    earlier = {place: (row.id, answering_ids(row)) for place, row in _at(rows, sorted({first for _, first in pairs}))}
    first_of = dict(pairs)
    for place, row in _at(rows, [place for place, _ in pairs]):
        identifier, answers = earlier[first_of[place]]
        if answers[0] not in row.relevant_ids:
            yield place, identifier
