"""Tune one candidate with the sentence-transformers trainer, level after level."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from multigrain.config import TrainingConfig
from multigrain.curriculum.plan import plan_batches
from multigrain.curriculum.sampler import CurriculumSampling
from multigrain.curriculum.schedule import boundaries, level_schedule
from multigrain.errors import ModelError
from multigrain.model.precision import supports_native_bf16
from multigrain.records import GradedExample
from multigrain.training.checkpoints import last_complete_checkpoint
from multigrain.training.log import Boundary, TrainingLog, TrainingStep
from multigrain.training.triples import pairs, triples

__all__ = ["StepListener", "planned_batches", "train_candidate"]

StepListener = Callable[[int, int, float], None]
"""Is told of every step: its number, the number of steps, the loss."""


@dataclass(frozen=True)
class _Settings:
    name: str
    config: TrainingConfig
    seed: int
    bf16: bool


def train_candidate(
    model: SentenceTransformer,
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    *,
    name: str,
    seed: int,
    checkpoints: Path,
    on_step: StepListener | None = None,
) -> TrainingLog:
    """Tune a model in place.

    Where `checkpoints` holds one of an interrupted run, training goes on from it with the very batches that remain.

    Args:
        model: base model with the candidate's pooling.
        examples: graded rows.
        config: the candidate's settings (`TrainingConfig.resolve`).
        name: the candidate's name, for its log.
        seed: of row order, level draws and dropout.
        checkpoints: a folder for this candidate's checkpoints; removed when training is complete.
        on_step: told of every step.

    Raises:
        ModelError: fewer than two rows, so that no batch has an in-batch negative; or the loss became NaN.
    """
    if len(examples) < 2:
        raise ModelError(f"candidate {name!r}: {len(examples)} training rows; at least 2 are needed, better thousands")
    started = time.monotonic()
    settings = _Settings(name, config, seed, _use_bf16(config, model))
    batches = planned_batches(examples, config, seed=seed)
    recorder = _StepRecorder(config.steps, on_step)
    trainer = _build_trainer(model, examples, settings, batches, checkpoints, recorder)
    last = last_complete_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    log = _log_of(trainer.state.log_history, settings, rows=len(examples), seconds=time.monotonic() - started)
    if any(step.loss != step.loss for step in log.history):
        raise ModelError(f"candidate {name!r}: the loss is not a number; lower training.learning_rate")
    shutil.rmtree(checkpoints, ignore_errors=True)
    return log


def planned_batches(examples: Sequence[GradedExample], config: TrainingConfig, *, seed: int) -> list[list[int]]:
    """The run's batches as indices into the long form, or into the pairs for in-batch training.

    Row order depends on the seed alone: candidates that differ in schedule or pooling see the same queries at the
    same steps.
    """
    schedule = level_schedule(config.schedule, config.steps, seed=seed)
    keys = [(example.query, example.positive) for example in examples]
    batches = plan_batches(keys, schedule, steps=config.steps, batch_size=config.batch_size, seed=seed)
    if config.schedule == "in-batch":
        return [[index % len(examples) for index in batch] for batch in batches]
    return list(batches)


def _build_trainer(
    model: SentenceTransformer,
    examples: Sequence[GradedExample],
    settings: _Settings,
    batches: list[list[int]],
    checkpoints: Path,
    recorder: TrainerCallback,
) -> SentenceTransformerTrainer:
    config = settings.config
    # An example for the model card, so that the trainer does not look for five and draw a bar over our lines.
    model.model_card_data.widget = [{"text": examples[0].query}]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        # The planned batches are the whole run, so the trainer sees one epoch; see CurriculumBatchSampler.
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        batch_sampler=CurriculumSampling(batches),
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(config.warmup_share * config.steps),
        bf16=settings.bf16,
        use_cpu=model.device.type == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,
        seed=settings.seed,
        dataloader_pin_memory=model.device.type == "cuda",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=pairs(examples) if config.schedule == "in-batch" else triples(examples),
        loss=MultipleNegativesRankingLoss(model, scale=1 / config.temperature),
        callbacks=[recorder],
    )
    # Progress is ours to show; the trainer's own printers would write between its lines.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


class _StepRecorder(TrainerCallback):
    """Passes every logged step on to the listener."""

    def __init__(self, steps: int, listener: StepListener | None) -> None:
        self.steps = steps
        self.listener = listener

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Called by the trainer after every step, since it logs each of them."""
        if self.listener is not None and logs is not None and "loss" in logs:
            self.listener(int(state.global_step), self.steps, float(logs["loss"]))


def _use_bf16(config: TrainingConfig, model: SentenceTransformer) -> bool:
    if config.precision == "auto":
        return supports_native_bf16(model.device)
    return config.precision == "bf16"


def _log_of(history: list[dict[str, Any]], settings: _Settings, *, rows: int, seconds: float) -> TrainingLog:
    config = settings.config
    schedule = level_schedule(config.schedule, config.steps, seed=settings.seed)
    steps = []
    for entry in history:
        if "loss" in entry:
            level = schedule(entry["step"] - 1)
            steps.append(
                TrainingStep(
                    step=entry["step"],
                    loss=float(entry["loss"]),
                    learning_rate=float(entry["learning_rate"]),
                    level=None if level is None else int(level),
                )
            )
    return TrainingLog(
        candidate=settings.name,
        pooling=config.pooling,
        schedule=config.schedule,
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        temperature=config.temperature,
        precision="bf16" if settings.bf16 else "float32",
        rows=rows,
        history=tuple(steps),
        boundaries=tuple(Boundary(each.step + 1, int(each.level)) for each in boundaries(schedule, config.steps)),
        seconds=round(seconds, 3),
    )
