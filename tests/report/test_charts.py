from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.curriculum.schedule import Boundary
from multigrain.evaluation.results import SetResult
from multigrain.evaluation.significance import PairedDifference
from multigrain.report.charts import (
    WIDTH,
    Axis,
    area,
    curve_axis,
    curve_chart,
    difference_axis,
    heat,
    loss_axis,
    loss_chart,
    stagger,
)
from multigrain.report.data import (
    AnchorText,
    AnchorToken,
)
from multigrain.training.curves import CurvePoint, SimilarityCurves
from multigrain.training.log import TrainingLog, TrainingStep

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(numbers, st.floats(1e-3, 1e6), st.floats(allow_nan=True))
def test_positions_stay_inside_the_drawing(low, size, value):
    assert 0 <= Axis(low, low + size).at(value) <= 100


@given(st.floats(-100, 100), st.floats(0.01, 1000), st.integers(2, 8))
def test_ticks_are_even_within_the_axis_and_about_as_many_as_asked(low, size, wanted):
    axis = Axis(low, low + size)
    ticks = axis.ticks(wanted)
    slack = size * 1e-6
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-6) for gap in gaps)
    assert wanted / 3 <= len(ticks) <= wanted + 1


def test_an_axis_without_extent_does_not_divide_by_zero():
    assert Axis(3, 3).at(3) == 0
    assert Axis(3, 3).ticks() == (3,)


def _set(*deltas):
    delta = {f"m{i}": delta for i, delta in enumerate(deltas) if delta is not None}
    return SetResult("s", "test", "queries", 10, 10, {}, delta)


def test_differences_share_one_axis_that_holds_zero_and_every_interval():
    gain, loss = PairedDifference(0.03, 0.02, 0.04, 0.01), PairedDifference(-0.1, -0.2, -0.05, 0.01)
    axis = difference_axis([_set(None, gain), _set(loss)])
    assert axis.low < loss.low
    assert axis.high > gain.high
    assert 0 < axis.at(0) < 100
    assert difference_axis([_set(gain)]).low < 0
    empty = difference_axis([_set(None)])
    assert empty.low < 0 < empty.high


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(0.1, 20))
def test_neighbours_that_would_hide_each_other_get_different_lanes(positions, room):
    lanes = stagger(positions, room)
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    for before, after in itertools.pairwise(order):
        if positions[after] - positions[before] < room:
            assert lanes[before] != lanes[after]


def test_a_density_is_drawn_as_a_closed_shape_mirrored_about_its_middle():
    path = area([0.0, 1.0, 0.5], 40)
    points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", path.removesuffix("Z")) if pair]
    assert path.endswith("Z")
    above, below = points[:3], points[3:][::-1]
    assert all(x == x2 and y + y2 == 40 for (x, y), (x2, y2) in zip(above, below, strict=True))
    assert above[1][1] == 0


def _text(*weights):
    return AnchorText("text", "m", tuple(AnchorToken("t", weight) for weight in weights))


def test_an_even_share_has_the_same_shade_in_short_and_long_texts():
    assert set(heat(_text(*[0.5] * 2))) == set(heat(_text(*[0.01] * 100))) == {3}


def test_shades_grow_with_weight_and_stay_in_the_palette():
    shades = heat(_text(0, 0.01, 0.05, 0.14, 0.8))
    assert list(shades) == sorted(shades)
    assert shades[0] == 0
    assert shades[-1] <= 9
    assert heat(_text(1.0, *[0.0] * 99))[0] == 9


def _run(losses, boundaries=(), steps=None):
    history = tuple(TrainingStep(i + 1, loss, 1e-5, 1) for i, loss in enumerate(losses))
    return TrainingLog(
        candidate="m",
        pooling="mean",
        schedule="coarse-to-fine",
        steps=steps or len(losses),
        batch_size=8,
        learning_rate=1e-5,
        temperature=0.05,
        precision="float32",
        rows=80,
        history=history,
        boundaries=tuple(boundaries),
        seconds=1.0,
    )


def test_level_zones_tile_the_steps():
    run = _run([1.0] * 40, [Boundary(1 + 10 * i, i + 1) for i in range(4)])
    chart = loss_chart(run, loss_axis([run]), 100, 20)
    assert [zone.level for zone in chart.zones] == [1, 2, 3, 4]
    assert chart.zones[0].start == 0
    for before, after in itertools.pairwise(chart.zones):
        assert before.start + before.width == pytest.approx(after.start, abs=0.02)
    assert chart.zones[-1].start + chart.zones[-1].width == pytest.approx(100, abs=0.02)


def test_a_diverged_run_is_drawn_as_far_as_it_goes_and_said_to_be_one():
    run = _run([2.0, 1.0, math.nan, math.inf])
    chart = loss_chart(run, loss_axis([run]), 100, 20)
    assert chart.lost == 2
    assert "nan" not in chart.raw + chart.smooth
    assert loss_chart(_run([math.nan]), Axis(0, 1), 100, 20) is None


@given(st.lists(st.floats(0, 50), min_size=1, max_size=200))
def test_the_running_mean_stays_within_the_losses(losses):
    run = _run(losses)
    chart = loss_chart(run, loss_axis([run]), 100, 20)
    assert min(losses) - 1e-9 <= chart.mean <= max(losses) + 1e-9
    assert (chart.first, chart.last) == (losses[0], losses[-1])
    assert 1 <= chart.window <= max(5, len(losses))


def test_a_short_run_has_a_running_mean_and_not_single_losses():
    losses = [0.85, 1.02, 0.27, 0.74, 0.49, 0.35, 0.52, 0.04, 0.08, 0.23, 0.08, 0.13, 0.03, 0.19, 0.15, 0.12]
    chart = loss_chart(_run(losses), Axis(0, 1), 100, 20)
    assert chart.window == 5
    assert chart.smooth != chart.raw
    assert min(losses[-10:]) < chart.mean < max(losses[-10:])
    assert chart.peak == 1e-5


def _curves(levels):
    def point(step):
        values = tuple(None if level is None else level - step / 100 for level in levels)
        margins = tuple(None if value is None else 0.8 - value for value in values)
        return CurvePoint(step, 0.8 - step / 200, values, margins, 0.9, 0.6, 0.0)

    return SimilarityCurves("rows", True, 12, 24, tuple(point(step) for step in (0, 5, 10)))


def test_similarity_curves_share_one_axis_and_fall_where_similarity_does():
    run = replace(_run([1.0] * 10), curves=_curves((0.1, 0.2, 0.3, None)))
    other = replace(_run([1.0] * 10), curves=_curves((-0.4, 0.2, 0.3, 0.5)))
    axis = curve_axis([run, other, _run([1.0])])
    assert axis.low < -0.5 < 0.8 < axis.high
    chart = curve_chart(run.curves, axis, 100)
    assert [level for level, _ in chart.levels] == [1, 2, 3]
    for line in (chart.positive, *(line for _, line in chart.levels)):
        points = [tuple(map(float, part.split())) for part in line[1:].split("L")]
        assert [x for x, _ in points] == [0, WIDTH / 2, WIDTH]
        heights = [y for _, y in points]
        assert heights == sorted(heights)  # downwards on the page
        assert 0 <= heights[0] <= heights[-1] <= 100
