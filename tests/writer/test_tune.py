"""`multigrain writer tune`, by TRL and peft: run where the extra `writer` is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import load_config
from multigrain.errors import MissingExtraError, RunMismatchError, SourceError
from multigrain.writer import training
from multigrain.writer.rounds import RoundSettings, tune_writer
from multigrain.writer.run_data import export_completions
from multigrain.writer.training import TuneSettings

# TRL and peft announce other libraries' renames, as the command line's filters hide.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_without_the_extra_the_line_that_installs_it_is_said(
    written_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"tuning the writer needs the package 'trl'.*\[writer\]"):
        tune_writer(written_run, RoundSettings())


@pytest.fixture(scope="module")
def tiny_writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random language model as a folder."""
    from tests.export.test_decoder import made

    from multigrain.writer.base import save_writer

    folder = tmp_path_factory.mktemp("tiny") / "base"
    save_writer(*made(max_position_embeddings=4096), folder)  # prompts are long in its few tokens
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("form", ["sft", "preference", "kto"])
def test_trls_trainers_read_what_is_exported(
    written_run: Path, tiny_writer: Path, tmp_path: Path, form: str, plain: bool
) -> None:
    trl = pytest.importorskip("trl")
    from datasets import load_dataset

    from multigrain.writer.base import load_writer

    count = export_completions(written_run, tmp_path / "rows.jsonl", form, conversational=not plain)  # type: ignore[arg-type]
    data = load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=str(tmp_path))
    model, tokenizer = load_writer(str(tiny_writer))
    trainer_class, config_class = {
        "sft": (trl.SFTTrainer, trl.SFTConfig),
        "preference": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
    }[form]
    arguments = config_class(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        max_length=2048,
        report_to="none",
        bf16=False,
        use_cpu=True,
        logging_steps=1,
    )

    trainer = trainer_class(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    assert len(trainer.train_dataset) == count
    trainer.train()

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)


def settings(base: Path, objective: Any = "sft", **changes: Any) -> RoundSettings:
    tune = TuneSettings(objective=objective, batch_size=4, epochs=0.5, rank=2, max_length=2048, checkpoint_every=1)
    return RoundSettings(
        **{
            "name": objective,
            "base": str(base),
            "tune": tune,
            "validation_rows": 12,
            "rows": 16,
            "dtype": "f32",
            "validation_share": 0.4,
        }
        | changes
    )


@pytest.mark.slow
def test_a_round_ends_in_a_file_that_the_config_names_as_writer(written_run: Path, tiny_writer: Path) -> None:
    pytest.importorskip("trl")

    summary = tune_writer(written_run, settings(tiny_writer))
    again = tune_writer(written_run, settings(tiny_writer))

    assert summary == again  # nothing is done twice
    assert [each["round"] for each in summary["rounds"]] == [0, 1]
    assert 8 <= summary["rounds"][1]["rows"] <= 16
    assert Path(summary["rounds"][1]["gguf"]).is_file()
    assert load_config(Path(summary["config"])).llm.model == summary["gguf"]
    rows = [
        json.loads(line)
        for line in (written_run / "writer/sft/round-1/rows.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert sum(row["weight"] for row in rows) > 0
    with pytest.raises(RunMismatchError, match="rows was 16, now 20"):
        tune_writer(written_run, settings(tiny_writer, rows=20))


@pytest.mark.slow
def test_an_interrupted_round_goes_on_from_its_checkpoint(
    written_run: Path, tiny_writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    steps: list[int] = []

    class StoppedError(RuntimeError):
        pass

    def stop(step: int, *_: Any) -> None:
        steps.append(step)
        if len(steps) == 2:
            raise StoppedError

    plain = training._recorder
    monkeypatch.setattr(training, "_recorder", lambda told: plain(stop))
    with pytest.raises(StoppedError):
        tune_writer(written_run, settings(tiny_writer, name="stopped"))
    assert (written_run / "writer/stopped/round-1/checkpoints/checkpoint-1").is_dir()

    summary = tune_writer(written_run, settings(tiny_writer, name="stopped"))

    assert steps[2] > 1  # the first step was not taken again
    assert len(summary["rounds"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "reward"])
def test_preferences_and_rewards(written_run: Path, tiny_writer: Path, objective: Any) -> None:
    pytest.importorskip("trl")

    summary = tune_writer(written_run, settings(tiny_writer, objective, draws=3))

    assert summary["objective"] == objective
    assert summary["rounds"][1]["rows"] >= 8


@pytest.mark.slow
def test_the_command_prints_what_its_schema_says(written_run: Path, tiny_writer: Path) -> None:
    pytest.importorskip("trl")
    options = ["--base", str(tiny_writer), "--rows", "16", "--epochs", "0.3", "--rank", "2", "--name", "cli"]
    options += [
        "--dtype",
        "f32",
        "--validation-rows",
        "12",
        "--validation-share",
        "0.4",
        "--max-length",
        "2048",
        "--json",
    ]

    done = CliRunner().invoke(app, ["writer", "tune", str(written_run), *options], catch_exceptions=False)

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "cli"


def test_too_few_documents_to_measure_on_are_told_of(written_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multigrain.writer.rounds.check_installed", lambda: None)

    with pytest.raises(SourceError, match="rows to measure on"):
        tune_writer(written_run, RoundSettings(name="few", validation_share=0.01))
