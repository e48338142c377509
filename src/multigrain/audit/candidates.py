"""Written negatives of one row on their way to a level: checked, measured, placed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from multigrain.audit.check import Problem, reject
from multigrain.audit.checks import check_negative
from multigrain.audit.levels import MinedPick, MinedPool, Picks, WrittenPick
from multigrain.config import AuditConfig
from multigrain.mining.search import Floats
from multigrain.records import LEVELS, Level, Rejection, SynthesizedRow
from multigrain.sources.grouping import normalise

__all__ = ["RowWork", "order_held", "written_texts"]


@dataclass
class RowWork:
    """One row under audit.

    Attributes:
        row: as it was written.
        vector: (d,) the query's reference vector.
        similarity: of query and positive.
        pool: what its levels may be mined from.
        limits: the config's `audit` section, with the lengths that go for the row.
        candidates: written negatives that passed so far.
        refused: those that did not, and why; reported if the row is kept.
        banned: texts and corpus rows that a judge turned away.
        approved: texts and corpus rows that every judge let pass.
        picks: what was chosen.
        problem: why the whole row goes; None while it stays.
    """

    row: SynthesizedRow
    vector: Floats
    similarity: float
    pool: MinedPool
    limits: AuditConfig
    candidates: list[WrittenPick] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)
    banned: set[str | int] = field(default_factory=set)
    approved: set[str | int] = field(default_factory=set)
    picks: Picks = field(default_factory=dict)
    problem: Problem | None = None
    seen: set[str] = field(default_factory=set)

    @property
    def ceiling(self) -> float:
        """The highest similarity that a negative may have."""
        return self.similarity - self.limits.false_negative_margin if self.limits.checks.false_negatives else 1.0

    def consider(self, texts: Iterable[tuple[Level, str, bool]], vectors: Mapping[str, Floats], turn: int) -> None:
        """Check and measure written negatives; they become candidates or are refused.

        Args:
            texts: level, text, and whether it is a spare one.
            vectors: the texts' reference vectors.
            turn: 0 for what synthesis wrote, 1 and more for what was written again.
        """
        for level, text, spare in texts:
            problem = check_negative(text, self.row, self.limits)
            if problem is None and self.limits.checks.repeats and normalise(text) in self.seen:
                problem = Problem("repeated", "another level of the row has the same text")
            if problem is None:
                self.seen.add(normalise(text))
                similarity = float(self.vector @ vectors[text])
                if similarity <= self.ceiling:
                    self.candidates.append(WrittenPick(text, level, similarity, turn, spare))
                    continue
                figures = f"similarity {similarity:.2f}, its positive {self.similarity:.2f}"
                problem = Problem("false_negative", figures)
            self.refused.append(reject(self.row, problem, level, text))

    def unplaced(self, *, spares: bool) -> Iterator[Rejection]:
        """Candidates that no level took.

        Args:
            spares: tell of spare ones too. Of several that a model wrote for one level, those that were not chosen
                are no loss; those of somebody's own file are asked after.
        """
        placed = [pick.text for pick in self.picks.values() if isinstance(pick, WrittenPick)]
        for each in self.candidates:
            told = not each.spare or (spares and not each.round)
            if told and each.text not in placed and each.text not in self.banned:
                detail = f"similarity {each.similarity:.2f} falls in no free level"
                yield reject(self.row, Problem("no_level", detail), each.asked, each.text)

    def unchecked(self) -> list[tuple[Level, WrittenPick | MinedPick]]:
        """Picks that the judges have not seen."""
        return [(level, pick) for level, pick in self.picks.items() if _key(pick) not in self.approved]

    def approve(self, pick: WrittenPick | MinedPick) -> None:
        """Note that a judge let a pick pass."""
        self.approved.add(_key(pick))

    def ban(self, pick: WrittenPick | MinedPick) -> None:
        """Note that a judge turned a pick away."""
        self.banned.add(_key(pick))


def written_texts(row: SynthesizedRow) -> list[tuple[Level, str, bool]]:
    """A row's negatives and further candidates, hardest first: level, text, and whether it is a spare one."""
    return [
        *((level, row.negatives[level], False) for level in reversed(LEVELS) if level in row.negatives),
        *((level, text, True) for level in reversed(LEVELS) for text in row.candidates.get(level, ())),
    ]


def order_held(work: RowWork, vectors: Mapping[str, Floats]) -> bool | None:
    """Whether the four levels as written rise strictly and stay below the positive, under the reference."""
    texts = [work.row.negatives.get(level, "") for level in LEVELS]
    if not all(text in vectors for text in texts):
        return None
    rising = [float(work.vector @ vectors[text]) for text in texts] + [work.similarity]
    return all(left < right for left, right in itertools.pairwise(rising))


def _key(pick: WrittenPick | MinedPick) -> str | int:
    return pick.text if isinstance(pick, WrittenPick) else pick.index
