"""Two processes (torchrun, gloo) train the model that one trains, and resume as exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multigrain.training.train import train_candidate

from .graded import config_of, encoder, largest_difference, scored_examples
from .together import LOSSES

ROOT = Path(__file__).parents[2]


def _train_together(small_bert: Path, out: Path, extent: str) -> dict[str, float]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    worker = ["-m", "tests.training.together", str(small_bert), str(out), extent]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *worker], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, float] = json.loads((out / "found.json").read_text())
    return found


def _distance_from_one_process(small_bert: Path, tmp_path: Path, saved: Path, loss: str, accumulation: int) -> float:
    config = config_of(
        loss=loss, schedule=LOSSES[loss], teacher="judge", accumulation=accumulation, checkpoint_every=1000
    )
    alone = encoder(small_bert, dropout=False)
    train_candidate(alone, scored_examples(), config, name="a", seed=7, checkpoints=tmp_path / "alone")
    return largest_difference(alone, encoder(saved))


def test_two_processes_resume_exactly_and_equal_one(small_bert: Path, tmp_path: Path) -> None:
    found = _train_together(small_bert, tmp_path, "quick")

    assert list(found) == ["resumed-2-5"]
    assert found["resumed-2-5"] <= 1e-6
    assert _distance_from_one_process(small_bert, tmp_path, tmp_path / "infonce-2", "infonce", 2) <= 1e-5


@pytest.fixture(scope="module")
def together(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: one launch for all tests, since much of its time is imports."""
    out = tmp_path_factory.mktemp("together")
    _train_together(small_bert, out, "full")
    return out


@pytest.mark.slow
def test_two_processes_resume_exactly_at_every_level_boundary(together: Path) -> None:
    found = json.loads((together / "found.json").read_text())

    assert len(found) == 6
    assert max(found.values()) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_equal_one_where_negatives_are_gathered(
    together: Path, small_bert: Path, tmp_path: Path, loss: str, accumulation: int
) -> None:
    saved = together / f"{loss}-{accumulation}"
    assert _distance_from_one_process(small_bert, tmp_path, saved, loss, accumulation) <= 1e-5
