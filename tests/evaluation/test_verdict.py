from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import decide, left_to_gain


def _difference(low: float, high: float) -> PairedDifference:
    return PairedDifference((low + high) / 2, low, high, 0.5)


@pytest.mark.parametrize(
    ("tests", "beat_base", "decision"),
    [
        ([(0.01, 0.03)], True, "use"),
        ([(0.01, 0.03)], False, "use"),
        ([(0.01, 0.03), (-0.03, -0.01)], True, "worse"),
        ([(0.01, 0.03), (-0.02, 0.01)], True, "use"),
        ([(-0.01, 0.03)], True, "not shown"),
        ([(-0.01, 0.03)], None, "not shown"),
        ([(-0.01, 0.03)], False, "no better on validation"),
        ([(-0.03, 0.01)], True, "no gain"),
        ([(0.0, 0.0)], None, "no gain"),
        ([], True, "not shown"),
        ([], False, "no better on validation"),
    ],
)
def test_the_test_queries_go_before_the_validation_queries(
    tests: list[tuple[float, float]], beat_base: bool | None, decision: str
) -> None:
    assert decide([_difference(*each) for each in tests], beat_base=beat_base) == decision


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted)), st.none() | st.booleans())
def test_a_model_is_recommended_only_where_a_gain_is_measured_and_no_loss(
    tests: list[list[float]], beat_base: bool | None
) -> None:
    found = decide([_difference(*each) for each in tests], beat_base=beat_base)
    assert (found == "use") == (any(low > 0 for low, _ in tests) and not any(high < 0 for _, high in tests))


def test_what_is_left_to_gain() -> None:
    assert [left_to_gain(base) for base in (0.5, 0.99, 0.991, 0.9996, 1.0)] == [
        "something",
        "something",
        "next to nothing",
        "nothing",
        "nothing",
    ]
