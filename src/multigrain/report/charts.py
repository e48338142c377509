"""Geometry of the page's charts. The templates draw; everything computed is computed, and tested, here.

Charts are inline SVG whose horizontal positions are percentages, so that they follow the width of the page while
text and strokes keep their size; lines of many points live in an inner viewport of `WIDTH` units that is scaled to the
width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from multigrain.evaluation.results import SetResult
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.vector_sizes import SizeTable
from multigrain.report.data import AnchorText
from multigrain.training.curves import SimilarityCurves
from multigrain.training.log import TrainingLog

WIDTH: Final = 1000
MOST_POINTS: Final = 1_000
"""Steps that a curve has points for: as many as a wide screen tells apart, however long the training was."""
T = TypeVar("T")

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from `low` to `high` with round ticks."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """The position of a value in percent of the width, kept within 0..100."""
        if not math.isfinite(value) or self.high <= self.low:
            return 0.0
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def span(self, first: float, last: float) -> float:
        """The distance between two values in percent of the width, never negative."""
        return round(max(self.at(last) - self.at(first), 0.0), 2)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """About `count` round values within the axis."""
        if self.high <= self.low:
            return (self.low,)
        rough = (self.high - self.low) / count
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in _STEPS if unit * factor >= rough * 0.999)
        first = math.ceil(round(self.low / step, 6))
        last = math.floor(round(self.high / step, 6))
        return tuple(round(i * step, 10) for i in range(first, last + 1))


def difference_axis(sets: Iterable[SetResult]) -> Axis:
    """One axis for all differences of some sets, with zero inside and room at both ends."""
    return axis_of([delta for result in sets for delta in result.delta.values()])


def loss_axis_of(table: SizeTable) -> Axis:
    """One axis for what all sizes of vectors lose, with zero inside and room at both ends."""
    return axis_of([size.loss for size in table.sizes if size.loss is not None])


def axis_of(differences: Sequence[PairedDifference]) -> Axis:
    """One axis for some differences and their intervals, with zero inside and room at both ends."""
    low = min([0.0, *(each.low for each in differences)])
    high = max([0.0, *(each.high for each in differences)])
    room = max((high - low) * 0.12, 0.002)
    return Axis(low - room, high + room)


def area(density: Sequence[float], height: float) -> str:
    """A closed path, mirrored about its middle, of a density over the whole width.

    Args:
        density: values in 0..1 over equal bins.
        height: of the drawing, in pixels.
    """
    middle = height / 2
    xs = [WIDTH * (i + 0.5) / len(density) for i in range(len(density))]
    above = [f"{x:.0f} {middle - middle * value:.1f}" for x, value in zip(xs, density, strict=True)]
    below = [f"{x:.0f} {middle + middle * value:.1f}" for x, value in zip(xs, density, strict=True)]
    return "M" + "L".join([*above, *reversed(below)]) + "Z"


def heat(text: AnchorText) -> tuple[int, ...]:
    """A shade from 0 to 9 for every token, by its weight in even shares, so that texts of any length compare.

    One even share (mean pooling) is shade 3, three are 6, and from about nine on it is the deepest.
    """
    shares = (max(0.0, token.weight * len(text.tokens)) for token in text.tokens)
    return tuple(round(9 * (1 - math.exp(-share / 3))) for share in shares)


def stagger(positions: Sequence[float], room: float) -> tuple[int, ...]:
    """A lane, 0 or 1, for every mark on a line, so that neighbours closer than `room` do not hide each other.

    Args:
        positions: in percent, in any order.
        room: in percent.
    """
    lanes = [0] * len(positions)
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    for before, after in itertools.pairwise(order):
        if positions[after] - positions[before] < room:
            lanes[after] = 1 - lanes[before]
    return tuple(lanes)


@dataclass(frozen=True, slots=True)
class LevelZone:
    """The range of steps that a level covers, in percent of the width."""

    level: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class LossChart:
    """One candidate's loss over its steps.

    Attributes:
        raw: path through every logged loss.
        smooth: path through its running mean.
        learning_rate: path of the learning rate, in a strip of its own.
        zones: where each level begins and how far it reaches; empty without a schedule of levels.
        steps: the step axis.
        first: the loss of the first logged step.
        last: the loss of the last.
        mean: the running mean at the end.
        window: about how many steps the running mean runs over.
        peak: the highest learning rate, at the top of its strip.
        lost: logged steps whose loss was not a finite number.
    """

    raw: str
    smooth: str
    learning_rate: str
    zones: tuple[LevelZone, ...]
    steps: Axis
    first: float
    last: float
    mean: float
    window: int
    peak: float
    lost: int


def loss_axis(runs: Iterable[TrainingLog]) -> Axis:
    """One loss axis for all candidates, from zero, so that their curves can be compared by eye."""
    losses = [step.loss for run in runs for step in run.history if math.isfinite(step.loss)]
    return Axis(0.0, max(losses, default=1.0) * 1.05 or 1.0)


def loss_chart(run: TrainingLog, axis: Axis, height: float, strip: float) -> LossChart | None:
    """Lay out one candidate's loss curve.

    Args:
        run: the candidate's log.
        axis: of the loss.
        height: of the plot, in pixels.
        strip: height of the learning rate's strip, in pixels.

    Returns:
        None where the log holds no finite loss.
    """
    logged = [step for step in run.history if math.isfinite(step.loss)]
    if not logged:
        return None
    steps = Axis(min(1, logged[0].step), max(run.steps, logged[-1].step))
    means = _running_mean([step.loss for step in logged])
    peak = max((step.learning_rate for step in logged), default=0.0) or 1.0
    drawn = thinned(list(zip(logged, means, strict=True)))
    xs = [steps.at(step.step) for step, _ in drawn]
    edges = itertools.pairwise([*(float(boundary.step) for boundary in run.boundaries), steps.high])
    return LossChart(
        raw=_line(xs, [axis.at(step.loss) for step, _ in drawn], height),
        smooth=_line(xs, [axis.at(mean) for _, mean in drawn], height),
        learning_rate=_line(xs, [100 * step.learning_rate / peak for step, _ in drawn], strip),
        zones=tuple(
            LevelZone(boundary.level, steps.at(start), steps.span(start, end))
            for boundary, (start, end) in zip(run.boundaries, edges, strict=True)
        ),
        steps=steps,
        first=logged[0].loss,
        last=logged[-1].loss,
        mean=means[-1],
        window=round(_window(len(logged))),
        peak=peak,
        lost=len(run.history) - len(logged),
    )


def thinned(values: Sequence[T]) -> Sequence[T]:
    """At most `MOST_POINTS` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= MOST_POINTS:
        return values
    return [values[round(i * (len(values) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


@dataclass(frozen=True, slots=True)
class CurveChart:
    """How similar positives and negatives were to their queries, over one candidate's steps.

    Attributes:
        positive: path of the positives.
        levels: path of the negatives by level, 1 to 4; a level without any is left out.
        steps: the step axis, from 0.
    """

    positive: str
    levels: tuple[tuple[int, str], ...]
    steps: Axis


def curve_axis(runs: Iterable[TrainingLog]) -> Axis:
    """One axis of cosines for the curves of all candidates."""
    values = [
        value
        for run in runs
        if run.curves is not None
        for point in run.curves.points
        for value in (point.positive, *point.levels)
        if value is not None
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max((high - low) * 0.06, 0.01)
    return Axis(low - room, high + room)


def curve_chart(curves: SimilarityCurves, axis: Axis, height: float) -> CurveChart:
    """Lay out one candidate's similarity curves.

    Args:
        curves: with a point before the first step.
        axis: of the cosines.
        height: of the plot, in pixels.
    """
    steps = Axis(0, max(curves.points[-1].step, 1))

    def path(values: Sequence[float | None]) -> str:
        places = [(steps.at(point.step), value) for point, value in zip(curves.points, values, strict=True)]
        known = [(x, axis.at(value)) for x, value in places if value is not None]
        return _line([x for x, _ in known], [y for _, y in known], height) if known else ""

    of_levels = list(zip(*(point.levels for point in curves.points), strict=True))
    drawn = ((level, path(values)) for level, values in enumerate(of_levels, start=1))
    return CurveChart(
        positive=path([point.positive for point in curves.points]),
        levels=tuple((level, line) for level, line in drawn if line),
        steps=steps,
    )


def _running_mean(values: Sequence[float]) -> list[float]:
    """Exponential mean over a window of the values, unbiased at the start."""
    keep = 1 - 1 / _window(len(values))
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means


def _window(count: int) -> float:
    """About a twentieth of the values, and never so few that the mean is each value itself."""
    return min(max(5.0, count / 20), max(count, 1))


def _line(xs: Sequence[float], ys: Sequence[float], height: float) -> str:
    """A path through points given in percent of width and height, y upwards."""
    return "M" + "L".join(f"{x * WIDTH / 100:.1f} {height * (1 - y / 100):.1f}" for x, y in zip(xs, ys, strict=True))
