"""What a training shows of itself: curves on one sample, and what is said of them, each provoked by a real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.stages.test_training import _prepared, _values, trained
from tests.training.graded import examples

from multigrain.dataset.store import write_examples
from multigrain.stages import attempts, training
from multigrain.stages.base import RunContext
from multigrain.training.log import TrainingLog, read_log
from multigrain.training.train import train_candidate


def _context(folder: Path, corpus: Path, model: Path, **settings: Any) -> RunContext:
    return _prepared(folder, _values(corpus, model, **settings))


def _log_of(context: RunContext) -> TrainingLog:
    trained(context)
    return read_log(context.run.candidate_path("tuned") / "training_log.json")


def _said(log: TrainingLog) -> dict[str, str]:
    return {notice.name: notice.words for notice in log.notices}


def test_a_rate_that_moves_nothing_is_said_and_so_are_vectors_that_are_still_the_base_s(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    log = _log_of(_context(tmp_path / "run", corpus_file, small_bert, learning_rate=1e-9, steps=3))

    assert set(_said(log)) == {"weights hardly moved", "vectors equal the base's"}
    assert all(notice.warns for notice in log.notices)
    assert "it was 1e-09" in _said(log)["weights hardly moved"]
    assert log.curves is not None
    first, *_, last = log.curves.points
    assert last.positive == pytest.approx(first.positive, abs=1e-5)


def test_a_tuning_of_which_next_to_nothing_is_kept_leaves_the_base_s_vectors(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    log = _log_of(_context(tmp_path / "run", corpus_file, small_bert, merge=1e-3, steps=4))

    assert set(_said(log)) == {"vectors equal the base's"}
    assert log.curves is not None
    assert log.curves.kept is not None
    assert log.curves.kept.moved < 1e-5 < log.curves.points[-1].moved


@pytest.mark.parametrize("rate", [0.2, 1.0], ids=["nearly", "to one vector"])
def test_vectors_that_collapse_are_said_and_end_no_training(
    tmp_path: Path, corpus_file: Path, small_bert: Path, rate: float
) -> None:
    log = _log_of(_context(tmp_path / "run", corpus_file, small_bert, learning_rate=rate, steps=12))

    assert len(log.history) == 12
    assert "collapsed" in _said(log)
    assert log.curves is not None
    assert log.curves.saved.spread < 0.2 * log.curves.points[0].spread


def test_a_loss_that_begins_at_its_floor_is_said(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    context = _context(tmp_path / "run", corpus_file, small_bert, temperature=0.002, learning_rate=1e-5, steps=3)
    write_examples(context.run.dataset_path, [replace(row, positive=row.query) for row in examples()])
    log = _log_of(context)

    assert "loss at its floor" in _said(log)
    assert max(step.loss for step in log.history) < 0.02
    other = _log_of(_context(tmp_path / "other", corpus_file, small_bert, learning_rate=1e-5, steps=3))
    assert "loss at its floor" not in _said(other)


def test_validation_that_falls_is_said_and_keep_decides_which_weights_stay(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    settings = {"learning_rate": 2e-2, "steps": 24, "early_stopping": 2}
    contexts = {
        keep: _context(tmp_path / keep, corpus_file, small_bert, **settings, keep=keep) for keep in ("best", "last")
    }
    logs = {keep: _log_of(context) for keep, context in contexts.items()}

    assert logs["best"].validation == logs["last"].validation
    scores = logs["best"].validation
    best, last = max(scores, key=lambda step: scores[step]), max(scores)
    assert scores[best] - scores[last] > 0.01
    assert (logs["best"].kept_step, logs["last"].kept_step) == (best, last)
    assert f"Step {best} is kept." in _said(logs["best"])["validation fell"]
    assert f"keep: best would keep step {best}" in _said(logs["last"])["validation fell"]
    weights = [load_file(context.run.candidate_path("tuned") / "model.safetensors") for context in contexts.values()]
    assert any(not torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_positives_that_lose_similarity_while_margins_grow_are_said_to_be_normal(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    values = _values(corpus_file, small_bert, validation_share=0.0, learning_rate=1e-3, steps=24)
    log = _log_of(_prepared(tmp_path / "run", values))

    (notice,) = log.notices
    assert (notice.name, notice.warns) == ("similarity fell, margins grew", False)
    assert "normal" in notice.words
    assert log.curves is not None
    assert not log.curves.held_out
    first, *_, last = log.curves.points
    assert last.positive < first.positive
    for before, after in zip(first.margins, last.margins, strict=True):
        assert before is not None
        assert after is not None
        assert after > before
    assert last.margins == pytest.approx([last.positive - (level or 0.0) for level in last.levels], abs=1e-5)


def test_curves_change_no_weight_and_a_resumed_training_has_the_same(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 8, "checkpoint_every": 3, "learning_rate": 1e-3, "dropout": 0.1}
    whole = _context(tmp_path / "whole", corpus_file, small_bert, **settings)
    expected = _log_of(whole)
    assert expected.curves is not None
    assert [point.step for point in expected.curves.points] == [0, 2, 4, 6, 8]

    class StopError(Exception):
        """Plays the machine that goes down."""

    def stopping(*args: Any, on_step: Any, **options: Any) -> TrainingLog:
        def stop(step: int, steps: int, loss: float) -> None:
            on_step(step, steps, loss)
            if step == 6:
                raise StopError

        return train_candidate(*args, on_step=stop, **options)

    cut = _context(tmp_path / "cut", corpus_file, small_bert, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "train_candidate", stopping)
        with pytest.raises(StopError):
            trained(cut)
    resumed = _log_of(cut)
    assert resumed.curves == expected.curves

    blind = _context(tmp_path / "blind", corpus_file, small_bert, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "validation_sample", lambda *_: None)
        patch.setattr(training, "sample_of_rows", lambda *_, **__: None)
        assert _log_of(blind).curves is None
    weights = [load_file(context.run.candidate_path("tuned") / "model.safetensors") for context in (whole, cut, blind)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=1e-6)
        assert torch.equal(weights[2][name], weight)
