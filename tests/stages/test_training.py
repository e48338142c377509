"""The training stage: merging by validation queries, and several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.training.graded import examples

from multigrain.config.file import parse_config
from multigrain.dataset.store import write_examples
from multigrain.errors import ConfigError
from multigrain.evaluation.retrieval import mean_ndcg_at_10
from multigrain.sources.store import read_document_table
from multigrain.stages import run_stages, selection
from multigrain.stages.base import RunContext
from multigrain.stages.fingerprints import dataset_fingerprint, synthesis_fingerprint
from multigrain.stages.table import STAGES
from multigrain.storage.rundir import RunDirectory, StageManifest
from multigrain.training.merging import AUTOMATIC_SHARES


def _values(corpus: Path, model: Path, validation_share: float = 0.3, **training: Any) -> dict[str, Any]:
    return {
        "documents": {"path": str(corpus), "validation_share": validation_share, "test_share": 0.3},
        "evaluation": {"queries": "titles", "bootstrap_samples": 100},
        "training": {
            "base_model": str(model),
            "max_seq_length": 32,
            "steps": 6,
            "batch_size": 8,
            "learning_rate": 5e-3,
            "precision": "float32",
            "merge": None,
            **training,
        },
    }


def _prepared(folder: Path, values: dict[str, Any]) -> RunContext:
    """A run whose rows are there, without a language model."""
    context = RunContext(parse_config(values), RunDirectory(folder))
    with context.run.hold():
        STAGES["documents"].run(context)
        context.run.finish("synthesis", synthesis_fingerprint(context), {}, 0.0)
        context.run.heldout_queries_path.write_text("")
        write_examples(context.run.dataset_path, examples())
        context.run.finish("dataset", dataset_fingerprint(context), {}, 0.0)
    return context


def trained(context: RunContext) -> list[StageManifest]:
    """What the training stage left of each candidate."""
    training = STAGES["training"]
    training.run(context)
    return [context.run.require(folder, "multigrain train") for folder in training.folders(context.config)]


def _weights(context: RunContext, name: str) -> dict[str, torch.Tensor]:
    return load_file(context.run.candidate_path(name) / "model.safetensors")


def test_validation_queries_choose_the_share_and_test_queries_are_not_looked_at(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spy(encoder: Any, evaluation_set: Any) -> Any:
        seen.append(evaluation_set.role)
        return mean_ndcg_at_10(encoder, evaluation_set)

    monkeypatch.setattr(selection, "mean_ndcg_at_10", spy)
    lora = {"lora": {"r": 4}}
    candidates = {
        "tuned": {},
        "merged": {"merge": "auto"},
        "half": {"merge": 0.5},
        "adapted": lora,
        "adapted-half": {**lora, "merge": 0.5},
    }
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, candidates=candidates))
    tuned, merged, half, *_ = trained(context)

    assert seen == ["validation"] * len(AUTOMATIC_SHARES)
    scores = merged.counts["merged_by_validation"]
    assert list(scores) == ["0.25", "0.5", "0.75", "1"]
    assert scores[f"{merged.counts['merged']:g}"] == max(scores.values())
    assert "merged" not in tuned.counts
    assert half.counts["merged"] == 0.5
    base = load_file(small_bert / "model.safetensors")
    shares = [("tuned", "merged", merged.counts["merged"]), ("tuned", "half", 0.5), ("adapted", "adapted-half", 0.5)]
    for unmerged, name, share in shares:
        whole = _weights(context, unmerged)
        assert any(not torch.equal(base[key], whole[key]) for key in base)
        for key, weight in _weights(context, name).items():
            torch.testing.assert_close(weight, base[key] + share * (whole[key] - base[key]), rtol=1e-5, atol=1e-6)
        log = json.loads((context.run.candidate_path(name) / "training_log.json").read_text())
        assert log["merged"] == share


def test_a_choice_without_validation_queries_is_refused_before_training(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, validation_share=0.0, merge=[0.5, 1.0]))
    assert read_document_table(context.run.documents_path)

    with pytest.raises(ConfigError, match=r"merge: \[0.5, 1.0\] needs validation queries"):
        STAGES["training"].run(context)


def test_a_loss_that_cannot_be_trained_is_refused_before_anything_is_written(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    config = parse_config(_values(corpus_file, small_bert, loss="listmle"))

    with pytest.raises(ConfigError, match="schedule: listwise"):
        run_stages(config, tmp_path / "run", ["documents", "synthesis", "audit", "training"])
    assert not (tmp_path / "run").exists()


def test_a_changed_set_to_mix_in_is_noticed(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps({"query": f"w{n}", "positive": f"w{n} w{n + 1}"}) for n in range(0, 40, 2)))
    mix = [{"name": "pairs", "path": str(pairs)}]
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, mix=mix, steps=2))
    (first,) = trained(context)
    assert first.counts["rows"] == 24 + 20
    pairs.write_text(pairs.read_text() + "\n" + json.dumps({"query": "w90", "positive": "w91"}))

    from multigrain.errors import RunMismatchError

    with pytest.raises(RunMismatchError):
        STAGES["training"].run(context)


def _start(config: Path, run: Path, *command: str) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*launcher, "-m", "multigrain", *command, str(config), "-r", str(run), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )


def _launch(config: Path, run: Path, *command: str) -> subprocess.CompletedProcess[str]:
    process = _start(config, run, *command)
    output, errors = process.communicate(timeout=400)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.mark.slow
def test_the_command_trains_under_a_launcher_and_one_process_alone_writes(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    values = _values(corpus_file, small_bert, candidates={"a": {}, "b": {"merge": "auto"}})
    context = _prepared(tmp_path / "run", values)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(values))
    done = _launch(config, context.run.path, "train")

    assert done.returncode == 0, done.stderr[-3000:]
    assert len([line for line in done.stdout.splitlines() if line.startswith("{")]) == 1
    for name in ("a", "b"):
        log = json.loads((context.run.candidate_path(name) / "training_log.json").read_text())
        assert log["processes"] == 2
        assert len(log["history"]) == 6
    assert not any(context.run.checkpoints_path.glob("*"))
    refused = _launch(config, context.run.path, "run")
    assert refused.returncode
    assert "2 processes can only train together" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True], ids=["whole", "sharded"])
def test_ctrl_c_under_a_launcher_leaves_a_checkpoint_that_the_same_command_goes_on_from(
    tmp_path: Path, corpus_file: Path, small_bert: Path, fsdp: bool
) -> None:
    values = _values(corpus_file, small_bert, steps=400, checkpoint_every=97, fsdp=fsdp)
    context = _prepared(tmp_path / "run", values)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(values))

    process = _start(config, context.run.path, "train")
    while not list(context.run.checkpoints_path.glob("*/checkpoint-97")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them; the launcher passes it on as well
    _, errors = process.communicate(timeout=200)
    assert process.returncode
    assert errors.count("the same command continues from there") == 1
    left = [int(path.name.rpartition("-")[2]) for path in context.run.checkpoints_path.glob("*/checkpoint-*")]
    assert 97 < max(left) < 2 * 97

    done = _launch(config, context.run.path, "train")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("Training tuned …") == 1
    folder = context.run.candidate_path("tuned")
    log = json.loads((folder / "training_log.json").read_text())
    assert [each["step"] for each in log["history"]] == list(range(1, 401))
    assert _weights(context, "tuned").keys() == load_file(small_bert / "model.safetensors").keys()
    assert not any(context.run.checkpoints_path.glob("*"))
