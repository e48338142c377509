"""Two processes (torchrun, gloo) train the model that one trains, and resume as exactly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder
from tests.stages.test_audit import settings

from multigrain.config.file import parse_config
from multigrain.model.reranker import build_reranker
from multigrain.stages import run_stages
from multigrain.training.train import train_candidate

from .graded import config_of, encoder, largest_difference, scored_examples
from .together import LOSSES, RERANKER_LOSSES, reranker_config

ROOT = Path(__file__).parents[2]


def _launch(worker: str, *arguments: str, seconds: float = 240) -> None:
    """Run a module of the tests in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", worker, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _train_together(small_bert: Path, out: Path, extent: str) -> dict[str, float]:
    _launch("tests.training.together", str(small_bert), str(out), extent)
    found: dict[str, float] = json.loads((out / "found.json").read_text())
    return found


def _distance_from_one_process(small_bert: Path, tmp_path: Path, saved: Path, loss: str, accumulation: int) -> float:
    config = config_of(
        loss=loss, schedule=LOSSES[loss], teacher="judge", accumulation=accumulation, checkpoint_every=1000
    )
    alone = encoder(small_bert, dropout=False)
    train_candidate(alone, scored_examples(), config, name="a", seed=7, checkpoints=tmp_path / "alone")
    return largest_difference(alone, encoder(saved))


def _distance_of_reranker(small_bert: Path, tmp_path: Path, saved: Path, loss: str, accumulation: int) -> float:
    config = reranker_config(
        small_bert,
        loss=loss,
        schedule=RERANKER_LOSSES[loss],
        accumulation=accumulation,
        dropout=0.0,
        learning_rate=3e-4,
        checkpoint_every=1000,
    )
    alone = build_reranker(config, seed=7, device="cpu")
    train_candidate(alone, scored_examples(), config, name="r", seed=7, checkpoints=tmp_path / "alone")
    return largest_difference(alone, CrossEncoder(str(saved), device="cpu"))


def test_two_processes_resume_exactly_and_equal_one(small_bert: Path, tmp_path: Path) -> None:
    found = _train_together(small_bert, tmp_path, "quick")

    assert list(found) == ["resumed-2-5", "reranker-resumed"]
    assert max(found.values()) <= 1e-6
    assert _distance_of_reranker(small_bert, tmp_path, tmp_path / "reranker-lambda-2", "lambda", 2) <= 1e-5
    assert _distance_from_one_process(small_bert, tmp_path, tmp_path / "infonce-2", "infonce", 2) <= 1e-5


def test_processes_that_look_at_different_times_agree_on_what_is_tuned_already(
    small_bert: Path, corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings(corpus_file, small_bert)
    values["training"] |= {"steps": 2, "batch_size": 4, "learning_rate": [1e-4, 1e-5], "merge": None}
    run = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit"])

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # every rate is tuned, and none is chosen yet
        patched.setattr(shutil, "copytree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_stages(parse_config(values), run.path, ["training"])
    assert len(list(run.checkpoints_path.glob("*-kept/outcome.json"))) == 2
    assert run.manifest("models/tuned") is None

    _launch("tests.training.late", str(run.path), seconds=100)

    manifest = run.manifest("models/tuned")
    assert manifest is not None
    assert set(manifest.counts["rates_by_validation"]) == {"0.0001", "1e-05"}
    assert not list(run.checkpoints_path.glob("*-kept"))


@pytest.mark.slow
def test_two_processes_try_several_rates_and_choose_one(small_bert: Path, corpus_file: Path, tmp_path: Path) -> None:
    values = settings(corpus_file, small_bert)
    values["training"] |= {"steps": 2, "batch_size": 4, "learning_rate": [1e-4, 1e-5]}
    run = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit"])

    _launch("multigrain", "train", str(run.path))

    manifest = run.manifest("models/tuned")
    assert manifest is not None
    assert set(manifest.counts["rates_by_validation"]) == {"0.0001", "1e-05"}
    assert not list(run.checkpoints_path.glob("*-kept"))


@pytest.fixture(scope="module")
def together(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: one launch for all tests, since much of its time is imports."""
    out = tmp_path_factory.mktemp("together")
    _train_together(small_bert, out, "full")
    return out


@pytest.mark.slow
def test_two_processes_resume_exactly_at_every_level_boundary(together: Path) -> None:
    found = json.loads((together / "found.json").read_text())

    assert len(found) == 7
    assert max(found.values()) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_equal_one_where_negatives_are_gathered(
    together: Path, small_bert: Path, tmp_path: Path, loss: str, accumulation: int
) -> None:
    saved = together / f"{loss}-{accumulation}"
    assert _distance_from_one_process(small_bert, tmp_path, saved, loss, accumulation) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss", RERANKER_LOSSES)
def test_two_processes_train_the_reranker_that_one_trains(
    together: Path, small_bert: Path, tmp_path: Path, loss: str, accumulation: int
) -> None:
    saved = together / f"reranker-{loss}-{accumulation}"
    assert _distance_of_reranker(small_bert, tmp_path, saved, loss, accumulation) <= 1e-5


@pytest.mark.slow
def test_two_processes_train_a_reranker_on_the_embedder_that_they_tuned(
    small_bert: Path, corpus_file: Path, tmp_path: Path
) -> None:
    values = settings(corpus_file, small_bert)
    values["training"] |= {
        "steps": 2,
        "batch_size": 4,
        "learning_rate": [1e-4, 1e-5],
        "merge": None,
        "candidates": {"plain": {}, "reranker": {"kind": "reranker", "base_model": "candidate:plain"}},
    }
    run = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit"])

    _launch("multigrain", "train", str(run.path))

    manifest = run.manifest("models/reranker")
    assert manifest is not None
    assert set(manifest.counts["rates_by_validation"]) == {"0.0001", "1e-05"}
    assert CrossEncoder(str(run.candidate_path("reranker")), device="cpu").predict([("river", "engine")]).shape == (1,)
