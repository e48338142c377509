"""What a training shows of itself: the signs that it did nothing, too much or harm, and one that looks bad and is not.

Each is a rule over the log, so that report and terminal say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Final

from multigrain.training.curves import CurvePoint
from multigrain.training.log import Notice, TrainingLog

HARDLY_MOVED: Final = 5e-5
"""Relative change of the weights below which nothing of use can have been learned [ours]: ten steps at 2e-5 move a
small model's by 6e-4."""
SAME_VECTORS: Final = 1e-4
"""Mean distance (1 - cosine) from the base's vectors below which rankings are the base's [ours]: ten steps at 2e-5
bring a small model's to 8e-3."""
COLLAPSED: Final = 0.2
"""Share of the base's mean distance between documents below which its vectors have collapsed [ours]."""
FLOOR: Final = 0.02
"""Loss, in nats, at which the positive has 98% of the probability: next to nothing is left to learn."""
FELL: Final = 0.01
"""Of nDCG@10, and of cosines: what is said to have fallen, or to have grown."""

_RANKING: Final = ("infonce", "masked", "guided")  # losses whose floor is 0, in nats
_FIRST: Final = 10  # a tenth of the steps is the beginning
_FEWEST_STEPS: Final = 3
_FEWEST_LOST: Final = 6  # rows: as many of as many are no chance (sign test, p = .03)


def notices_of(log: TrainingLog) -> tuple[Notice, ...]:
    """What to say of a finished training.

    Args:
        log: with curves, scores and losses; what it does not hold is not judged.
    """
    return tuple(
        notice for rule in (_moved, _vectors, _collapse, _floor, _validation, _margins) for notice in rule(log)
    )


def _moved(log: TrainingLog) -> Iterator[Notice]:
    moved = log.weights_moved
    if moved is not None and moved < HARDLY_MOVED:
        merged = "" if log.merged is None else f" {log.merged:.2g} of the tuning was merged with the base."
        yield Notice(
            "weights hardly moved",
            True,
            f"The weights hardly moved: by {moved:.1g} of their length.{merged} "
            f"Raise training.learning_rate (it was {log.learning_rate:g}) or training.steps ({log.steps}).",
        )


def _vectors(log: TrainingLog) -> Iterator[Notice]:
    if log.curves is not None and log.curves.saved.moved < SAME_VECTORS:
        yield Notice(
            "vectors equal the base's",
            True,
            "The saved model's vectors hardly differ from the base's: their mean cosine distance on "
            f"{log.curves.rows} queries is {log.curves.saved.moved:.1g}. It will rank as the base does; see whether "
            "weights moved, and how much of the tuning was merged.",
        )


def _collapse(log: TrainingLog) -> Iterator[Notice]:
    if log.curves is None:
        return
    before, last, saved = log.curves.points[0], log.curves.points[-1], log.curves.saved
    lowest = min(last, saved, key=lambda point: point.spread)
    if lowest.spread < COLLAPSED * before.spread:
        kept = f" In the saved model it is {saved.spread:.2f}." if saved is not lowest else ""
        yield Notice(
            "collapsed",
            True,
            f"The vectors collapsed: the mean distance between two documents fell from {before.spread:.2f} to "
            f"{lowest.spread:.2g}.{kept} Lower training.learning_rate (it was {log.learning_rate:g}).",
        )


def _floor(log: TrainingLog) -> Iterator[Notice]:
    beginning = log.history[: max(_FEWEST_STEPS, len(log.history) // _FIRST)]
    if log.loss not in _RANKING or not beginning:
        return
    first = fmean(step.loss for step in beginning) / max(log.lengths, 1)
    if first < FLOOR:
        yield Notice(
            "loss at its floor",
            True,
            f"The loss is at its floor from the start: {first:.2g} over the first {len(beginning)} steps, where 0 is "
            "the least. The base already tells these positives from their negatives; use harder negatives "
            "(strategy: mined-bands), a larger training.batch_size, or other queries.",
        )


def _validation(log: TrainingLog) -> Iterator[Notice]:
    if log.validation:
        best = max(log.validation, key=lambda step: (log.validation[step], -step))
        last = max(log.validation)
        if log.validation[best] - log.validation[last] > FELL:
            kept = (
                f"The last step is kept (training.keep: last); keep: best would keep step {best}."
                if log.keep == "last"
                else f"Step {best} is kept."
            )
            yield Notice(
                "validation fell",
                True,
                f"Validation fell while training went on: nDCG@10 was {log.validation[best]:.3f} after step {best} "
                f"and {log.validation[last]:.3f} after step {last}. {kept} A lower training.learning_rate goes less "
                "far.",
            )
        return
    if log.curves is None or not log.curves.held_out:
        return
    before, saved, rows = log.curves.points[0].first, log.curves.saved.first, log.curves.rows
    if round((before - saved) * rows) >= _FEWEST_LOST:
        yield Notice(
            "validation fell",
            True,
            f"Validation fell: the right document was nearest for {before:.0%} of {rows} validation queries before "
            f"training, and is for {saved:.0%} now. Let training.early_stopping ask validation queries, and "
            "training.keep: best keep the best step.",
        )


def _margins(log: TrainingLog) -> Iterator[Notice]:
    if log.curves is None:
        return
    before, saved = log.curves.points[0], log.curves.saved
    if before.positive - saved.positive > FELL and _margin(saved) - _margin(before) > FELL:
        yield Notice(
            "similarity fell, margins grew",
            False,
            f"The similarity of positives fell from {before.positive:.2f} to {saved.positive:.2f}, while their margin "
            f"over negatives grew from {_margin(before):.2f} to {_margin(saved):.2f}. That is normal: only the order "
            "counts, and negatives were pushed away further. Measure thresholds on cosines again.",
        )


def _margin(point: CurvePoint) -> float:
    return fmean([margin for margin in point.margins if margin is not None] or [0.0])
