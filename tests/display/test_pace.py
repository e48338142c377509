"""The rate and the time left that are shown: none before enough was seen, none of what an earlier session did."""

from __future__ import annotations

import pytest
from rich.console import Console

from multigrain.display.terminal import Pace, _Bars, _LineTask, _pace_words


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_warming_up_and_journaled_items_count_for_nothing() -> None:
    clock = _Clock()
    pace = Pace(1000, clock=clock)
    pace.advance(400, resumed=True)  # at once, from the journal
    assert (pace.rate, pace.left, _pace_words(pace)) == (None, None, "")
    clock.now += 60  # the model loads
    pace.advance(1, resumed=False)
    assert pace.rate is None
    for _ in range(9):
        clock.now += 2
        pace.advance(1, resumed=False)

    assert pace.rate == pytest.approx(0.5)
    assert pace.left == pytest.approx(590 / 0.5)
    assert _pace_words(pace) == "30.0/min, 20 min left"


def test_a_burst_of_answers_is_no_rate() -> None:
    clock = _Clock()
    pace = Pace(100, clock=clock)
    for _ in range(8):
        pace.advance(1, resumed=False)
        clock.now += 0.001
    assert pace.rate is None


def test_lines_name_their_unit_and_a_resumed_end_has_no_rate() -> None:
    lines: list[str] = []
    task = _LineTask(lines.append, "Training tuned", "steps", Pace(20))
    task.advance(20, "loss 1.000", resumed=True)
    assert lines == ["Training tuned: 20/20 steps (in 0 s), loss 1.000"]


def test_bars_show_no_guess_at_the_start() -> None:
    target = Console(force_terminal=True, width=120, record=True)
    with _Bars(target).task("Evaluating base", 3, unit="sets") as task:
        task.advance(note="test nDCG@10 0.500")
    shown = target.export_text()
    assert "sets" in shown
    assert "/s" not in shown.replace("/sets", "")
