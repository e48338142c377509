from __future__ import annotations

import json
from pathlib import Path

import pytest

from multigrain.training.checkpoints import last_complete_checkpoint

PARTS = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "modules.json"]


def _checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for part in PARTS:
        (path / part).write_bytes(b"x")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_the_newest_complete_checkpoint_is_taken_by_number_and_not_by_name(tmp_path: Path) -> None:
    _checkpoint(tmp_path, 9)
    newest = _checkpoint(tmp_path, 100)

    assert last_complete_checkpoint(tmp_path) == newest


@pytest.mark.parametrize("missing", [*PARTS, "trainer_state.json"])
def test_a_checkpoint_that_was_being_written_is_passed_over_and_removed(tmp_path: Path, missing: str) -> None:
    whole = _checkpoint(tmp_path, 3)
    cut = _checkpoint(tmp_path, 6)
    (cut / missing).unlink()

    assert last_complete_checkpoint(tmp_path) == whole
    assert not cut.exists()


def test_a_state_that_was_cut_in_the_middle_does_not_count(tmp_path: Path) -> None:
    cut = _checkpoint(tmp_path, 6)
    (cut / "trainer_state.json").write_text('{"global_step": ')

    assert last_complete_checkpoint(tmp_path) is None


def test_there_may_be_none(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "nowhere") is None
