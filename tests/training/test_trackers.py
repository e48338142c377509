"""Reporting to trackers is the trainer's own; where its logs lie and what is missing is ours to say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers.integrations import integration_utils

from multigrain.config.file import parse_config
from multigrain.errors import ConfigError, MissingExtraError
from multigrain.stages import run_stages
from multigrain.training.trackers import check_trackers
from multigrain.training.train import train_candidate

from .graded import config_of, encoder, examples


class _Writer:
    """Stands in for TensorBoard's writer, which is not installed with the tests."""

    def __init__(self, log_dir: str) -> None:
        self.path = Path(log_dir) / "scalars.jsonl"
        self.path.parent.mkdir(parents=True)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        with self.path.open("a") as lines:
            lines.write(json.dumps([name, value, step]) + "\n")

    def add_text(self, *_: Any) -> None:
        pass

    flush = close = add_text


def test_tensorboards_logs_outlive_the_checkpoints(
    small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("tensorboardX")
    module.SummaryWriter = _Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)

    log = train_candidate(
        encoder(small_bert),
        examples(),
        config_of(report_to=["tensorboard"], steps=3),
        name="a",
        seed=1,
        checkpoints=tmp_path / "checkpoints",
        logs=tmp_path / "logs",
    )

    assert not (tmp_path / "checkpoints").exists()
    written = [json.loads(line) for line in (tmp_path / "logs" / "scalars.jsonl").read_text().splitlines()]
    losses = [(step, value) for name, value, step in written if name == "train/loss"]
    assert losses == [(each.step, pytest.approx(each.loss)) for each in log.history]


@pytest.mark.parametrize(
    ("tracker", "kind", "message"),
    [
        ("tensorbord", ConfigError, "did you mean 'tensorboard'"),
        ("trackio", MissingExtraError, "pip install trackio"),
    ],
)
def test_a_tracker_that_is_not_there_is_told_before_anything_is_done(
    tracker: str,
    kind: type[Exception],
    message: str,
    corpus_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("multigrain.training.trackers.find_spec", lambda _: None)
    config = parse_config({"documents": {"path": str(corpus_file)}, "training": {"report_to": [tracker]}})

    with pytest.raises(kind, match=message):
        run_stages(config, tmp_path / "run", ["documents", "synthesis", "audit", "training"])
    assert not (tmp_path / "run").exists()


def test_every_tracker_of_the_trainer_is_known() -> None:
    unknown = []
    for name in integration_utils.INTEGRATION_TO_CALLBACK:
        try:
            check_trackers(config_of(report_to=[name]))
        except ConfigError:
            unknown.append(name)
        except MissingExtraError:
            pass
    assert unknown == []
