"""False negatives as a teacher sees them: passages that it scores about as high as the positive, replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from multigrain.records import GradedExample, Negative, Passage


@dataclass(frozen=True)
class JudgedRows(Sequence[GradedExample]):
    """Graded rows without the negatives that a teacher calls answers; read row by row, as they are asked for.

    Attributes:
        rows: with a teacher's scores.
        margin: see `without_false_negatives`.
    """

    rows: Sequence[GradedExample]
    margin: float

    def __len__(self) -> int:
        """As many as there were."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> GradedExample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[GradedExample]: ...
    def __getitem__(self, place: int | slice) -> GradedExample | Sequence[GradedExample]:
        """One row, or several."""
        if isinstance(place, slice):
            return JudgedRows(self.rows[place], self.margin)
        return without_false_negatives(self.rows[place], self.margin)

    def __iter__(self) -> Iterator[GradedExample]:
        """All rows in order."""
        return (without_false_negatives(row, self.margin) for row in self.rows)


def without_false_negatives(row: GradedExample, margin: float) -> GradedExample:
    """A row whose negatives a teacher scores below its positive.

    A negative that is scored above the positive less the margin is replaced by the passage of the row that is scored
    highest below that, and serves no other level; where all such passages serve one already, by the nearest of the
    others that is left. Where the teacher scores no passage below, or gave the positive no score, the row stays as it
    is. Passages without a score are never taken for answers, and never taken in.

    Args:
        row: with a teacher's scores.
        margin: on the teacher's own scale.
    """
    if row.positive_score is None:
        return row
    limit = row.positive_score - margin

    def answers(score: float | None) -> bool:
        return score is not None and score > limit

    wrong = [negative for negative in row.negatives if answers(negative.score)]
    passages: tuple[Negative | Passage, ...] = (*row.candidates, *row.negatives)
    scored = [passage for passage in passages if passage.score is not None]
    below = sorted((each for each in scored if not answers(each.score)), key=lambda each: -(each.score or 0.0))
    if not wrong or not below:
        return row
    used = {negative.text for negative in row.negatives if negative not in wrong}
    negatives = list(row.negatives)
    # The hardest passage is for the hardest level.
    for level in sorted((negative.level for negative in wrong), reverse=True):
        chosen = next((passage for passage in below if passage.text not in used), below[-1])
        used.add(chosen.text)
        negatives[level - 1] = Negative(chosen.text, level, chosen.origin, chosen.similarity, score=chosen.score)
    easiest, low, high, hardest = negatives
    return replace(row, negatives=(easiest, low, high, hardest), actions=(*row.actions, "judged by the teacher"))
