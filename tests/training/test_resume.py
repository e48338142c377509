"""Training that was stopped at any level boundary and resumed ends where uninterrupted training ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.config import TrainingConfig
from multigrain.curriculum.schedule import step_ranges
from multigrain.training.data import schedule_of
from multigrain.training.train import train_candidate

from .graded import config_of, encoder, examples, largest_difference, scored_examples

SEED = 7
CURRICULUM = [{"until": 0.5, "levels": {1: 1}}, {"until": 1, "levels": {2: 1, 4: 2}}]
CASES = {
    "coarse-to-fine": {},
    "accumulated": {"accumulation": 2},
    "split": {"rows": "split", "schedule": "reverse"},
    "custom": {"schedule": "custom", "curriculum": CURRICULUM, "accumulation": 2},
    "cumulative": {"schedule": "cumulative"},
    "listwise": {"schedule": "listwise", "loss": "wasserstein"},
    "cached": {"mini_batch_size": 3, "matryoshka": [8]},
    "distil": {"loss": "distil", "teacher": "judge"},
    "distil-cached": {"loss": "distil", "teacher": "judge", "schedule": "reverse", "mini_batch_size": 3},
    "margin-mse": {"loss": "margin-mse", "teacher": "judge", "schedule": "cumulative"},
    "graded": {"loss": "graded", "teacher": "judge", "schedule": "listwise", "accumulation": 2},
}


class StoppedError(Exception):
    """Plays the machine that goes down."""


def _first_steps(config: TrainingConfig) -> list[int]:
    """The first step (from 1) of every range of steps but the first; the middle where there is one only."""
    found = [each.start + 1 for each in step_ranges(schedule_of(config, config.steps, seed=SEED), config.steps)]
    return found[1:] or [config.steps // 2]


@pytest.mark.parametrize("case", CASES)
def test_resuming_at_every_level_boundary_changes_nothing(small_bert: Path, tmp_path: Path, case: str) -> None:
    config = config_of(**CASES[case])
    whole = encoder(small_bert)
    log = train_candidate(whole, scored_examples(), config, name="a", seed=SEED, checkpoints=tmp_path / "whole")
    for first in _first_steps(config):

        def stop(step: int, steps: int, loss: float, first: int = first) -> None:
            if step == first:  # told before this step's checkpoint is written: the last one is that of the step before
                raise StoppedError

        checkpoints = tmp_path / f"cut-{first}"
        with pytest.raises(StoppedError):
            train_candidate(
                encoder(small_bert),
                scored_examples(),
                config,
                name="a",
                seed=SEED,
                checkpoints=checkpoints,
                on_step=stop,
            )
        resumed, seen = encoder(small_bert), []
        again = train_candidate(
            resumed,
            scored_examples(),
            config,
            name="a",
            seed=SEED,
            checkpoints=checkpoints,
            on_step=lambda step, *_, seen=seen: seen.append(step),
        )

        assert seen == list(range(first, config.steps + 1))
        assert largest_difference(whole, resumed) <= 1e-6
        assert [step.level for step in again.history] == [step.level for step in log.history]


def test_accumulation_takes_the_same_rows_a_step(small_bert: Path, tmp_path: Path) -> None:
    logs = [
        train_candidate(
            encoder(small_bert, dropout=False),
            examples(),
            config_of(accumulation=parts, checkpoint_every=1000),
            name="a",
            seed=1,
            checkpoints=tmp_path / str(parts),
        )
        for parts in (1, 2, 4)
    ]

    for log in logs:
        assert [step.level for step in log.history] == [1, 1, 2, 2, 3, 3, 4, 4]
    # Fewer in-batch negatives: an easier question.
    assert logs[0].history[0].loss > logs[1].history[0].loss > logs[2].history[0].loss


def test_a_batch_that_cannot_be_cut_is_refused(small_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 8 cannot be cut into 3 equal parts"):
        config_of(accumulation=3)
    from multigrain.errors import ModelError

    with pytest.raises(ModelError, match="leaves one query to each of 8 parts"):
        train_candidate(
            encoder(small_bert), examples(), config_of(accumulation=8), name="a", seed=1, checkpoints=tmp_path / "c"
        )
