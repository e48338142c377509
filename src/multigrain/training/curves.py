"""How similar positives and negatives are while a model is tuned, on a small sample that stays the same.

The loss says how well a batch is told apart, and its level changes with the negatives. These curves ask one and the
same question at every point: how close does the model put queries to their positives, and to negatives of each level?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from multigrain.config import Band
from multigrain.encoders.protocol import Floats, Role, unit_length
from multigrain.records import LEVELS, GradedExample

_COST: Final = 0.025  # of the texts that training reads, at most, where that leaves _FEWEST_ROWS
_FEWEST_ROWS: Final = 10
_MOST_ROWS: Final = 64
_MOST_POINTS: Final = 16
_PASSES: Final = 9  # a step reads three texts a query, and learning from a text costs three times reading it
_TEXTS: Final = 2.5  # of the sample for each of its rows: a query, its positive, half of another document
_DIGITS: Final = 6

Levels = tuple[tuple[int, ...], ...]
Embed = Callable[[Sequence[str], Role], Floats]


@dataclass(frozen=True)
class SimilaritySample:
    """Queries with their positives and negatives, the same at every point of the curves.

    Attributes:
        source: where they come from, in words.
        held_out: whether nothing of it is tuned on.
        queries: one a row.
        documents: different texts.
        positives: of each row the place of its positive among the documents.
        relevant: of each row the places of all documents that answer it.
        levels: of each row, for level 1 to 4, the places of its negatives; None where the base's order of the
            documents decides, by bands of ranks.
        bands: for level 1 to 4 the ranks (from, to) that the base's order is cut into.
    """

    source: str
    held_out: bool
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    positives: tuple[int, ...]
    relevant: tuple[frozenset[int], ...]
    levels: tuple[Levels, ...] | None = None
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True)
class CurvePoint:
    """What the sample looks like to a model. Similarities are means over rows, of cosines.

    Attributes:
        step: after which it was asked; 0 before the first.
        positive: of queries and their positives.
        levels: of queries and their negatives, for level 1 to 4; None where no row has one.
        margins: the positive's less each level's.
        first: share of rows whose positive is nearer than all its negatives.
        spread: mean distance (1 - cosine) of two different documents.
        moved: mean distance (1 - cosine) of a text's vector from its vector before the first step.
    """

    step: int
    positive: float
    levels: tuple[float | None, ...]
    margins: tuple[float | None, ...]
    first: float
    spread: float
    moved: float


@dataclass(frozen=True)
class SimilarityCurves:
    """A candidate's curves.

    Attributes:
        sample: where its rows come from, in words.
        held_out: whether nothing of it is tuned on.
        rows: queries of the sample.
        documents: of the sample.
        points: in the order of steps; the first is before training.
        kept: the model that is saved, where it is not that of the last point.
    """

    sample: str
    held_out: bool
    rows: int
    documents: int
    points: tuple[CurvePoint, ...]
    kept: CurvePoint | None = None

    @property
    def saved(self) -> CurvePoint:
        """Of the model that is saved."""
        return self.kept or self.points[-1]


def sample_size(steps: int, batch_size: int) -> tuple[int, int]:
    """How many rows the sample has, and after how many steps it is asked, again and again.

    Args:
        steps: of the whole training.
        batch_size: queries of a step.

    Returns:
        Rows, 10 to 64, and steps between two points: a quarter of the run or less, so that every level has its end.
        Together they read no more than a fortieth of what training does, but in a very short one.
    """
    texts = _COST * _PASSES * steps * batch_size
    rows = int(min(max(texts / (6 * _TEXTS), _FEWEST_ROWS), _MOST_ROWS))
    quarters = int(min(max((texts / (rows * _TEXTS) - 2) // 4, 1), _MOST_POINTS // 4))
    return rows, math.ceil(steps / (4 * quarters))


def sample_of_rows(examples: Sequence[GradedExample], rows: int, *, seed: int) -> SimilaritySample | None:
    """A sample of the rows that are tuned on, where there are no validation queries.

    Args:
        examples: the graded rows.
        rows: how many to take at most.
        seed: decides which.
    """
    if not examples:
        return None
    draw = np.random.default_rng(seed)
    chosen = [examples[place] for place in sorted(draw.permutation(len(examples))[:rows].tolist())]
    places: dict[str, int] = {}
    for row in chosen:
        for text in (row.positive, *(negative.text for negative in row.negatives)):
            places.setdefault(text, len(places))
    return SimilaritySample(
        source="rows that are tuned on",
        held_out=False,
        queries=tuple(row.query for row in chosen),
        documents=tuple(places),
        positives=tuple(places[row.positive] for row in chosen),
        relevant=tuple(frozenset([places[row.positive]]) for row in chosen),
        levels=tuple(
            tuple(tuple(places[each.text] for each in row.negatives if each.level == level) for level in LEVELS)
            for row in chosen
        ),
    )


class SimilarityMeter:
    """Asks a model for the similarities of a sample.

    Args:
        sample: what to ask.
        embed: the model's vectors of texts, as queries or as documents; asked before it is tuned, too.
    """

    def __init__(self, sample: SimilaritySample, embed: Embed) -> None:
        self._embed = embed
        self._base = _encoded(sample, embed)
        self.sample = sample if sample.levels is not None else _ranked(sample, self._base)

    def before(self) -> CurvePoint:
        """The point before the first step, which costs nothing more."""
        return self._of(0, self._base)

    def point(self, step: int) -> CurvePoint:
        """Ask the model as it is.

        Args:
            step: the last that it has taken.
        """
        return self._of(step, _encoded(self.sample, self._embed))

    def _of(self, step: int, now: tuple[Floats, Floats]) -> CurvePoint:
        queries, documents = now
        similarity = queries @ documents.T
        positive = similarity[np.arange(len(queries)), list(self.sample.positives)]
        levels, first = self._negatives(similarity, positive)
        count, total = len(documents), documents.sum(axis=0)
        together = (float(total @ total) - count) / max(count * (count - 1), 1)
        # Of unit vectors half the squared distance is 1 - cosine, and exact where they are equal.
        moved = np.concatenate([((new - old) ** 2).sum(axis=1) / 2 for old, new in zip(self._base, now, strict=True)])
        mean = float(positive.mean())
        return CurvePoint(
            step=step,
            positive=round(mean, _DIGITS),
            levels=tuple(None if level is None else round(level, _DIGITS) for level in levels),
            margins=tuple(None if level is None else round(mean - level, _DIGITS) for level in levels),
            first=round(first, _DIGITS),
            spread=round(1 - together, _DIGITS),
            moved=round(float(moved.mean()), 8),
        )

    def _negatives(self, similarity: Floats, positive: Floats) -> tuple[list[float | None], float]:
        of_levels: list[list[float]] = [[] for _ in LEVELS]
        first = 0
        for row, levels in enumerate(self.sample.levels or ()):
            nearest = -np.inf
            for values, places in zip(of_levels, levels, strict=True):
                if places:
                    found = similarity[row, list(places)]
                    values.append(float(found.mean()))
                    nearest = max(nearest, float(found.max()))
            first += positive[row] > nearest
        means = [float(np.mean(values)) if values else None for values in of_levels]
        return means, first / max(len(positive), 1)


def _encoded(sample: SimilaritySample, embed: Embed) -> tuple[Floats, Floats]:
    """Vectors of length 1 of the queries and of the documents; zeros where a model that diverged gives no number."""
    queries, documents = embed(sample.queries, "query"), embed(sample.documents, "document")
    return unit_length(_finite(queries)), unit_length(_finite(documents))


def _finite(vectors: Floats) -> Floats:
    return np.where(np.isfinite(vectors), vectors, np.float32(0))


def _ranked(sample: SimilaritySample, base: tuple[Floats, Floats]) -> SimilaritySample:
    """The sample with levels by bands of the base's ranks, as negatives are mined."""
    order = np.argsort(-(base[0] @ base[1].T), axis=1, kind="stable")
    levels = []
    for row, relevant in enumerate(sample.relevant):
        others = [place for place in order[row].tolist() if place not in relevant]
        levels.append(tuple(tuple(others[low:high]) for low, high in sample.bands))
    return replace(sample, levels=tuple(levels))
