from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.display import numbers
from multigrain.report.data import Interval


@pytest.mark.parametrize(
    ("value", "text"), [(0.708, ".708"), (1.0, "1.000"), (0.0, ".000"), (-0.0124, "−.012"), (-0.00001, ".000")]
)
def test_scores_have_three_decimals_and_no_leading_zero(value, text):
    assert numbers.score(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.25, ".25"), (-0.2, "−.2"), (0.0, "0"), (-0.0, "0"), (1.0, "1")])
def test_marks_of_an_axis_are_short(value, text):
    assert numbers.mark(value) == text


@pytest.mark.parametrize(
    ("mean", "low", "high", "text"),
    [
        (0.033, 0.021, 0.045, "+3.3 [2.1, 4.5]"),
        (-0.018, -0.03, -0.006, "−1.8 [−3.0, −0.6]"),
        (0.0, -0.001, 0.001, "0.0 [−0.1, 0.1]"),
        (0.006, 0.0002, 0.012, "+0.60 [0.02, 1.20]"),
    ],
)
def test_intervals_are_signed_points(mean, low, high, text):
    assert numbers.interval(Interval(mean, low, high)) == text


@given(st.floats(0.0001, 0.2), st.floats(0.0001, 0.2))
def test_an_interval_clear_of_zero_never_reads_as_touching_it(low, width):
    shown = numbers.interval(Interval(low + width / 2, low, low + width))
    lower_end = shown.partition("[")[2].partition(",")[0]
    assert float(lower_end) > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (492, "8 min 12 s"), (11_100, "3 h 5 min"), (-1, "–")],
)
def test_durations_show_two_units(seconds, text):
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(50.2, "50 s"), (89, "89 s"), (240, "4 min"), (3_599, "1 h 0 min"), (7_800, "2 h 10 min")]
)
def test_estimates_of_time_are_rough(seconds, text):
    assert numbers.rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1518, 1997, "76%"), (34, 1000, "3.4%"), (1, 5000, "under 0.1%"), (0, 5, "0%"), (0, 0, "–")],
)
def test_percentages_never_round_something_to_nothing(part, whole, text):
    assert numbers.percent(part, whole) == text


def test_times_are_shown_to_the_minute():
    assert numbers.clock("2026-03-01T09:30:59+00:00") == "2026-03-01 09:30 UTC"
    assert numbers.clock("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("value", "text"), [(12.4, "$12.40"), (1234.5, "$1,234.50"), (0.42, "$0.42"), (0, "$0.00"), (0.00312, "$0.0031")]
)
def test_dollars_show_cents_or_the_first_two_digits(value, text):
    assert numbers.dollars(value) == text
