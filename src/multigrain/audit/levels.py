"""Choosing one negative a level by what was measured, whatever the writer was asked for.

From the hardest level down, each pick must lie below a ceiling: first the positive's similarity less a margin, then
the last pick less a gap. So every kept row is in order under the reference model, by construction. Two models agree
on the order of two texts the more often the further apart they are, so twice the gap is tried first.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from multigrain.config import Band
from multigrain.encoders.protocol import Floats
from multigrain.mining.best import Indices
from multigrain.mining.search import Ranking
from multigrain.records import LEVELS, Level

_WIDER: Final = (2.0, 1.0)  # multiples of the gap, tried in this order
_A_BAND: Final = 48  # documents kept of a band; a row needs one of them


@dataclass(frozen=True)
class WrittenPick:
    """A written negative that passed the text checks.

    Attributes:
        text: the passage.
        asked: the level it was written for.
        similarity: measured cosine to the query.
        round: 0 where synthesis wrote it; 1 and more where it was written again.
        spare: whether it is one of the row's further candidates.
    """

    text: str
    asked: Level
    similarity: float
    round: int = 0
    spare: bool = False

    @property
    def key(self) -> str:
        """What tells it from the row's other picks."""
        return self.text


@dataclass(frozen=True)
class MinedPick:
    """A corpus document that serves as a negative.

    Attributes:
        index: its corpus row.
        similarity: measured cosine to the query.
    """

    index: int
    similarity: float

    @property
    def key(self) -> int:
        """What tells it from the row's other picks."""
        return self.index


Picks = dict[Level, WrittenPick | MinedPick]


@dataclass(frozen=True)
class MinedPool:
    """What one row's levels may be mined from: a sample of each band, nearest first.

    Attributes:
        ranks: (k,) rising.
        indices: (k,) corpus rows.
        similarities: (k,) falling.
        bands: for level 1 to 4 the ranks (from, to).
        spans: for level 1 to 4 the similarities at the band's far and near end.
    """

    ranks: Indices
    indices: Indices
    similarities: Floats
    bands: tuple[Band, ...]
    spans: tuple[tuple[float, float], ...]


def mined_pool(ranking: Ranking, bands: Sequence[Band], *, seed: str) -> MinedPool:
    """The part of a ranking that the levels need: a few numbers instead of thousands, so that all rows fit in memory.

    Args:
        ranking: the corpus as the query ranks it.
        bands: for level 1 to 4 the ranks (from, to), scaled to the corpus.
        seed: decides which members of a long band are kept.
    """
    draw = random.Random(seed)
    size = len(ranking.indices)
    places: list[int] = []
    for low, high in reversed(bands):
        members = range(min(low, size), min(high, size))
        places += sorted(draw.sample(members, _A_BAND)) if len(members) > _A_BAND else members
    ranks = np.asarray(places, dtype=np.int64)

    def similarity_at(rank: int) -> float:
        return float(ranking.similarities[min(rank, size - 1)]) if size else 0.0

    return MinedPool(
        ranks,
        ranking.indices[ranks],
        ranking.similarities[ranks],
        tuple(bands),
        tuple((similarity_at(high - 1), similarity_at(low)) for low, high in bands),
    )


def pick_negatives(
    written: Sequence[WrittenPick],
    pool: MinedPool,
    *,
    sources: Literal["hybrid", "mined", "written"],
    ceiling: float,
    gap: float,
    seed: str,
    relevel: bool = True,
    in_order: bool = True,
    banned: Collection[str | int] = (),
) -> Picks:
    """One negative a level, in strictly falling similarity; levels that nothing fits are left out.

    A written negative goes to the level in whose band of the corpus its measured similarity falls; where several
    fit, those that were asked for that level go first, and of these the one nearest to the band's middle. With
    `sources="written"` there are no bands to fall in: the texts are levelled by their order alone.

    Args:
        written: candidates that passed the text checks.
        pool: what may be mined.
        sources: which kinds may be used.
        ceiling: highest similarity of the hardest negative.
        gap: least difference between neighbouring levels.
        seed: decides which member of a band is drawn.
        relevel: whether a written negative may serve at another level than it was asked for.
        in_order: whether levels must fall; where not, written negatives stay where they were asked.
        banned: texts and corpus rows that are not to be used.
    """
    free = [pick for pick in written if pick.similarity <= ceiling and pick.text not in banned]
    if sources == "mined":
        free = []
    best: Picks = {}
    for factor in _WIDER if in_order and gap > 0 else (1.0,):
        draw = random.Random(seed)
        descent = _Descent(pool, draw, ceiling, gap * factor if in_order else None, relevel and in_order, banned)
        picks = descent.written_only(free) if sources == "written" else descent.with_mined(free)
        if len(picks) == len(LEVELS):
            return picks
        if len(picks) > len(best):
            best = picks
    return best


def candidate_picks(
    written: Sequence[WrittenPick], pool: MinedPool, *, taken: Collection[str | int], count: int
) -> list[WrittenPick | MinedPick]:
    """More passages of a row: written texts that no level took, the nearest of the corpus, and some of every band.

    They may lie above the ceiling of negatives: what they are is for a teacher or a judge to say.

    Args:
        written: candidates that passed the text checks.
        pool: what may be mined.
        taken: texts and corpus rows that are not to be used.
        count: how many; of written texts half as many at most, and of the nearest documents half as many.
    """
    texts = [pick for pick in written if pick.text not in taken][: count // 2]
    mined = [
        MinedPick(int(index), float(similarity))
        for index, similarity in zip(pool.indices, pool.similarities, strict=True)
        if int(index) not in taken
    ]
    near, rest = mined[: (count + 1) // 2], mined[(count + 1) // 2 :]
    spread = min(max(0, count - len(texts) - len(near)), len(rest))
    picks: list[WrittenPick | MinedPick] = [*texts, *near]
    picks += [rest[place * len(rest) // spread] for place in range(spread)]
    return picks[:count]


@dataclass
class _Descent:
    """Picks for one row, from the hardest level down to the easiest."""

    pool: MinedPool
    draw: random.Random
    ceiling: float
    gap: float | None
    relevel: bool
    banned: Collection[str | int]

    def with_mined(self, written: Sequence[WrittenPick]) -> Picks:
        picks: Picks = {}
        for level, band, (far, near) in zip(
            reversed(LEVELS), reversed(self.pool.bands), reversed(self.pool.spans), strict=True
        ):
            floor = far if self.gap is not None else -1.0
            fitting = [pick for pick in self._for_level(written, level, picks) if pick.similarity >= floor]
            middle = (far + min(near, self.ceiling)) / 2
            pick: WrittenPick | MinedPick | None = max(
                fitting,
                key=lambda pick: (pick.asked == level, -abs(pick.similarity - middle)),
                default=None,
            )
            pick = pick or self._mine(*band, {mined.index for mined in picks.values() if isinstance(mined, MinedPick)})
            if pick is not None:
                self._take(picks, level, pick)
        return picks

    def written_only(self, written: Sequence[WrittenPick]) -> Picks:
        picks: Picks = {}
        for level in reversed(LEVELS):
            fitting = self._for_level(written, level, picks)
            if fitting:
                self._take(picks, level, max(fitting, key=lambda pick: pick.similarity))
        return picks

    def _for_level(self, written: Sequence[WrittenPick], level: Level, picks: Picks) -> list[WrittenPick]:
        used = {pick.text for pick in picks.values() if isinstance(pick, WrittenPick)}
        return [
            pick
            for pick in written
            if pick.similarity <= self.ceiling and pick.text not in used and (self.relevel or pick.asked == level)
        ]

    def _take(self, picks: Picks, level: Level, pick: WrittenPick | MinedPick) -> None:
        picks[level] = pick
        if self.gap is not None:
            self.ceiling = pick.similarity - self.gap

    def _mine(self, low: int, high: int, used: Collection[int]) -> MinedPick | None:
        """A random member of the band that lies below the ceiling; else the first document below both."""
        pool = self.pool
        # The similarities fall, so all ranks from the first one at or below the ceiling qualify.
        first = int(np.searchsorted(-pool.similarities, -self.ceiling, side="left"))
        start = max(first, int(np.searchsorted(pool.ranks, low)))
        end = int(np.searchsorted(pool.ranks, high))
        places = list(range(start, end))
        self.draw.shuffle(places)
        for place in (*places, *range(max(start, end), len(pool.indices))):
            index = int(pool.indices[place])
            if index not in self.banned and index not in used:
                return MinedPick(index, float(pool.similarities[place]))
        return None
