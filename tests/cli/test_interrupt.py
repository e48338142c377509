"""Ctrl-C while a model is trained: a word at once, a checkpoint, and an end that is called no error."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from multigrain.config.file import load_config
from multigrain.stages import run_stages


def test_training_says_at_once_that_it_stops(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    values = {
        "documents": {"path": str(corpus_file), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "scripted"},
        "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0},
        "training": {"base_model": str(small_bert), "steps": 5_000, "batch_size": 4, "max_seq_length": 32},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    run_stages(load_config(tmp_path / "c.yaml"), tmp_path / "runs" / "c", ["documents", "synthesis", "audit"])

    with subprocess.Popen(
        [sys.executable, "-m", "multigrain", "train", "c.yaml"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.match(r"Training tuned\b.*: \d+/\d+ steps", line):
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().strip().splitlines()

    assert process.returncode == 130
    assert " steps" in line
    assert said[-2].startswith("stopping after this step; a checkpoint is written first")
    assert said[-1] == "interrupted; nothing that was finished is lost, the same command continues from there"
    assert not [each for each in said if each.startswith("error")]
    assert list(tmp_path.glob("runs/c/checkpoints/tuned-*/checkpoint-*"))
