"""The training benchmarks' arithmetic, and the figure of the curricula."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmarks.training_speed import LIMITS, Clock, report

from benchmarks import draw_curricula, draw_gains
from multigrain.config.file import parse_config


def test_the_first_step_is_not_timed_and_its_tokens_are_not_counted() -> None:
    times = iter([0.0, 5.0, 6.0, 8.0])
    clock = Clock(lambda: next(times))
    for _ in range(3):
        clock.tick()
    # Three columns a batch; one batch is read ahead.
    clock.columns = [100, 100, 100, 10, 20, 30, 1, 2, 3, 900, 900, 900]

    assert clock.tokens_per_second() == pytest.approx(66 / 3)
    assert clock.setup_seconds() == pytest.approx(5 - 1.5)


def test_ratios_are_of_runs_in_the_same_round() -> None:
    import argparse

    arguments = argparse.Namespace(
        rounds=3, steps=5, batch_size=8, tokens=32, texts="own", seed=1, cpu_time=True, precision="float32"
    )
    speeds = {"plain": [100.0, 50.0, 10.0], "mean": [99.0, 49.5, 9.9], "ata": [80.0, 40.0, 8.0]}
    result = report(speeds, {side: [0.1] for side in speeds}, arguments)

    assert (result["ratio_mean"], result["ratio_ata"]) == (0.99, 0.8)
    assert result["intervals"]["ratio_mean"] == [0.99, 0.99]
    assert result["ratio_ata"] < LIMITS["ratio_ata"]


@pytest.mark.parametrize("figure", [draw_curricula, draw_gains])
def test_figures_are_up_to_date(figure: ModuleType) -> None:
    assert figure.OUT.read_text(encoding="utf-8") == figure.draw()


@pytest.mark.parametrize("guide", ["training.md", "curriculum.md"])
def test_every_config_in_the_guides_is_accepted(guide: str) -> None:
    import re

    import yaml

    text = (Path(__file__).parents[2] / "docs" / "guides" / guide).read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    configs = [block for block in blocks if "training" in block]

    assert configs
    for config in configs:
        parse_config(config)
