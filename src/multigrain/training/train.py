"""Tune one candidate, an embedder or a reranker, with sentence-transformers' trainer, level after level."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import torch
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import distributed, nn
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from multigrain.config import TrainingConfig
from multigrain.curriculum.schedule import boundaries
from multigrain.errors import ModelError
from multigrain.model.precision import supports_native_bf16
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.model.query_side import frozen_documents, idle_weights_frozen
from multigrain.model.routes import has_routes
from multigrain.model.tuning import dropout_set_to, quick_attention, threads_for
from multigrain.records import LEVELS, GradedExample
from multigrain.training.checkpoints import keeps_learning_alone, last_complete_checkpoint
from multigrain.training.data import (
    GRADED,
    PASSAGE,
    CurriculumSampling,
    TrainingPlan,
    TrainingSource,
    graded_source,
    listed_source,
    mix_source,
    plan_training,
    schedule_of,
    scored_source,
)
from multigrain.training.false_negatives import JudgedRows
from multigrain.training.interrupt import OrderlyInterrupt
from multigrain.training.log import TrainingLog, TrainingStep
from multigrain.training.losses.pairs import without_shift
from multigrain.training.losses.registry import build_loss, graded_shape, learned_targets, level_grades
from multigrain.training.padding import padding_cut
from multigrain.training.processes import check_sharding, is_main_process, process_count, process_rank
from multigrain.training.targets import score_targets
from multigrain.training.trackers import keep_logs
from multigrain.training.trainers import (
    AdapterTrainer,
    QuerySideTrainer,
    RerankerAdapterTrainer,
    ShardingTrainer,
    fsdp_arguments,
    gather_into,
    training_device,
    twin_to_shard,
)

_DOCUMENT_COLUMNS: Final = ("positive", "negative", *(f"negative_{int(level)}" for level in LEVELS))

Model = SentenceTransformer | CrossEncoder
StepListener = Callable[[int, int, float], None]
"""Is told of every step: its number, the number of steps, the loss."""


class Watch(Protocol):
    """Asks, while a model is tuned, how good it is by now."""

    def is_due(self, step: int, steps: int) -> bool:
        """Whether it is to be asked after a step."""
        ...

    def look(self, step: int) -> bool:
        """Ask; True ends the training. The main process alone is called."""
        ...


@dataclass(frozen=True)
class _Settings:
    name: str
    config: TrainingConfig
    seed: int
    bf16: bool


def train_candidate(
    model: Model,
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    *,
    name: str,
    seed: int,
    checkpoints: Path,
    logs: Path | None = None,
    on_step: StepListener | None = None,
    on_note: Callable[[str], None] = lambda line: None,
    on_interrupt: Callable[[], None] | None = None,
    on_look: Callable[[], None] | None = None,
    watches: Sequence[Watch] = (),
) -> TrainingLog:
    """Tune a model in place.

    Where `checkpoints` holds one of an interrupted run, training goes on from it with the very batches that remain.
    Under torchrun every process calls this with the same arguments, and ends with the same weights; where training is
    sharded (`fsdp`) the main process alone does, and the others end without weights.

    Args:
        model: base model with the candidate's pooling, or with a reranker's head.
        examples: graded rows; may be none where `config` trains on a mix alone.
        config: the candidate's settings (`TrainingConfig.resolve`).
        name: the candidate's name, for its log.
        seed: of row order, level draws and dropout.
        checkpoints: a folder for this candidate's checkpoints; removed when training is complete.
        logs: a folder for TensorBoard's logs, where `config.report_to` names it; None puts them beside `checkpoints`.
        on_step: told of every step.
        on_note: told of each line on the sets that are mixed in, e.g. what is left out of them.
        on_interrupt: told at once of Ctrl-C or SIGTERM: the step at hand is finished before training ends.
        on_look: told before the model is looked at, which may take as long as many steps.
        watches: look at the model now and then; each may end training before its last step.

    Raises:
        ConfigError: the loss is unknown, has wrong options, or cannot be trained on the schedule's rows; or sharding
            is asked for in one process.
        SourceError: a set to mix in cannot be used.
        ModelError: fewer than two rows, so that no batch has an in-batch negative; a batch that cannot be cut into
            equal parts; or the loss became NaN.
        KeyboardInterrupt: Ctrl-C or SIGTERM ended it; a checkpoint of the last step was written first.
    """
    if config.graded_weight and len(examples) < 2:
        raise ModelError(f"candidate {name!r}: {len(examples)} training rows; at least 2 are needed, better thousands")
    check_sharding(config)
    started = time.monotonic()
    settings = _Settings(name, config, seed, _use_bf16(config, model))
    # Every process reads its own copy: they may not share a disk.
    sources = training_sources(examples, config, checkpoints / f"rows-{process_rank()}", seed=seed, on_note=on_note)
    plan = plan_training(sources, config, seed=seed, processes=process_count())
    steps = len(plan.sources)
    recorder = _StepRecorder(steps, on_step)
    trained: Any = twin_to_shard(cast("SentenceTransformer", model)) if config.fsdp else model
    trainer = _build_trainer(trained, settings, plan, checkpoints, recorder)
    keep_logs(trainer, checkpoints.with_name(f"{checkpoints.name}-logs") if logs is None else logs)
    last = last_complete_checkpoint(
        checkpoints,
        processes=process_count(),
        remove=is_main_process(),
        sharded=config.fsdp,
        learning=keeps_learning_alone(config),
    )
    # Sharded processes gather weights at every call, so they have to make equally many.
    on_cpu = not config.fsdp and training_device(config, model).type == "cpu"
    with (
        dropout_set_to(trained, _dropout(config, training_device(config, model))),
        frozen_documents(trained),
        idle_weights_frozen(trained) if config.side == "query" and process_count() > 1 else nullcontext(),
        without_shift(trained, trainer.loss),
        threads_for(trained),
        quick_attention(trained, enabled=on_cpu and settings.bf16),
        padding_cut(trained, enabled=on_cpu),
        OrderlyInterrupt(processes=process_count(), on_first=on_interrupt) as interrupt,
    ):
        trainer.add_callback(interrupt)
        if watches:
            trainer.add_callback(_Watching(watches, steps, on_look))
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if interrupt.requested and trainer.state.global_step < steps:
        raise KeyboardInterrupt  # its checkpoint is what the same command goes on from
    log = _log_of(trainer.state.log_history, settings, plan, seconds=time.monotonic() - started)
    if any(step.loss != step.loss for step in log.history):
        raise ModelError(f"candidate {name!r}: the loss is not a number; lower training.learning_rate")
    if config.fsdp:
        gather_into(cast("SentenceTransformer", model), trainer)
    trainer.accelerator.wait_for_everyone()
    if is_main_process():
        shutil.rmtree(checkpoints, ignore_errors=True)
    return log


def column_prompts(model: SentenceTransformer, passages: Iterable[str] = ()) -> dict[str, str] | None:
    """The model's prompts, as the trainer puts them before the texts of each column; None where it has none.

    Args:
        model: the model.
        passages: more columns of documents.
    """
    query, document = query_prompt(model), document_prompt(model)
    return _by_column(query, document, passages) if query or document else None


def column_routes(model: SentenceTransformer, passages: Iterable[str] = ()) -> dict[str, str] | None:
    """The route of an asymmetric model that each column's texts take; None where the model has one for all."""
    return _by_column("query", "document", passages) if has_routes(model) else None


def _by_column(query: str, document: str, passages: Iterable[str]) -> dict[str, str]:
    return {"query": query, **dict.fromkeys((*_DOCUMENT_COLUMNS, *passages), document)}


def training_sources(
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    folder: Path,
    *,
    seed: int,
    on_note: Callable[[str], None] = lambda line: None,
) -> list[TrainingSource]:
    """What a candidate is trained on: the graded rows, unless they have no weight, and the sets to mix in.

    Args:
        examples: graded rows.
        config: the candidate's settings.
        folder: where the data sets' files are written.
        seed: of the rows that are taken of a set where `max_rows` limits them.
        on_note: told what is left out of a set, and which of its columns are not used.

    Raises:
        SourceError: a set to mix in cannot be used.
        ModelError: the loss learns from a teacher's scores, and the rows have none to learn from.
    """
    mixed = []
    for mix in config.mix:
        source, counts = mix_source(mix, folder, seed=seed)
        mixed.append(source)
        for line in counts.reading.lines(f"mix {mix.name}"):
            on_note(line)
    if not config.graded_weight:
        return mixed
    if config.teacher_margin is not None:
        examples = JudgedRows(examples, config.teacher_margin)
    shape, weight = graded_shape(config), config.graded_weight
    learned = learned_targets(config)
    if config.kind == "reranker" and (grades := level_grades(config)) is not None:
        return [listed_source(examples, shape, folder, grades, weight=weight)]
    if learned is None:
        return [graded_source(examples, shape, folder, weight=weight), *mixed]
    return [scored_source(examples, shape, folder, score_targets(examples, learned), weight=weight), *mixed]


def _build_trainer(
    model: Any,
    settings: _Settings,
    plan: TrainingPlan,
    checkpoints: Path,
    recorder: TrainerCallback,
) -> Any:
    config = settings.config
    device = training_device(config, model)
    sampling: Any = CurriculumSampling(plan.batches)
    common: dict[str, Any] = {
        "output_dir": str(checkpoints),
        # The planned batches are the whole run, so the trainer sees one epoch; see CurriculumBatchSampler.
        "num_train_epochs": 1,
        "per_device_train_batch_size": config.batch_size // (process_count() * config.accumulation),
        "gradient_accumulation_steps": config.accumulation,
        # One data set takes the first hook; several take the second, which ignores what the first made.
        "batch_sampler": sampling,
        "multi_dataset_batch_sampler": sampling,
        "learning_rate": config.rates(choose=False)[0],
        "lr_scheduler_type": "linear",
        "warmup_steps": round(config.warmup_share * len(plan.sources)),
        "bf16": settings.bf16,
        "use_cpu": device.type == "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        "save_total_limit": 2,
        "seed": settings.seed,
        "dataloader_pin_memory": device.type == "cuda",
        "disable_tqdm": True,
        "report_to": list(config.report_to) or "none",
        "run_name": settings.name,
    }
    parts = {"model": model, "train_dataset": plan.dataset, "loss": _losses(model, config, plan)}
    trainer: Any
    if config.kind == "reranker":
        model.model_card_data.generate_widget_examples = False
        # A cross-encoder returns a BatchEncoding, in which PyTorch's DistributedDataParallel sees no tensor: if it
        # looked for unused weights, it would take all of them for unused.
        arguments = CrossEncoderTrainingArguments(
            prompts=model.prompts.get(model.default_prompt_name), **common, ddp_find_unused_parameters=False
        )
        kind = CrossEncoderTrainer if config.lora is None else RerankerAdapterTrainer
        trainer = kind(args=arguments, callbacks=[recorder], **parts)
    else:
        first = plan.dataset if len(plan.rows) == 1 else next(iter(plan.dataset.values()))
        # An example for the model card, so that the trainer does not look for five and draw a bar over our lines.
        model.model_card_data.widget = [{"text": first[0]["query"]}]
        own = SentenceTransformerTrainingArguments(
            prompts=column_prompts(model, _passage_columns(plan)),
            router_mapping=column_routes(model, _passage_columns(plan)),
            # The last text of a row is a document, whose graph holds none of the weights that are tuned: all of them
            # would count as unused, and then as ready twice.
            ddp_find_unused_parameters=False if config.side == "query" else None,
            **common,
            **fsdp_arguments(config, model),
        )
        trainer = _trainer_class(config)(args=own, callbacks=[recorder], **parts)
    # Progress is ours to show; the trainer's own printers would write between its lines.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _trainer_class(config: TrainingConfig) -> type[SentenceTransformerTrainer]:
    if config.fsdp:
        return ShardingTrainer
    if config.side == "query":
        return QuerySideTrainer
    return SentenceTransformerTrainer if config.lora is None else AdapterTrainer


def _passage_columns(plan: TrainingPlan) -> list[str]:
    datasets = [plan.dataset] if len(plan.rows) == 1 else plan.dataset.values()
    return [name for dataset in datasets for name in dataset.column_names if name.startswith(PASSAGE)]


def _losses(model: Model, config: TrainingConfig, plan: TrainingPlan) -> nn.Module | dict[str, nn.Module]:
    processes = process_count()
    if len(plan.rows) == 1:
        return build_loss(model, config, processes=processes, graded=GRADED in plan.rows, threshold=plan.threshold)
    own = build_loss(model, config, processes=processes, threshold=plan.threshold)
    mixed = build_loss(model, config, processes=processes, graded=False)
    return {name: own if name == GRADED else mixed for name in plan.rows}


class _Watching(TrainerCallback):
    """Lets the main process look at the model as it is, and all processes end together."""

    def __init__(self, watches: Sequence[Watch], steps: int, on_look: Callable[[], None] | None) -> None:
        self.watches = watches
        self.steps = steps
        self.on_look = on_look

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the trainer after every optimiser step."""
        step = int(state.global_step)
        due = [watch for watch in self.watches if watch.is_due(step, self.steps)]
        if not due:
            return
        if self.on_look is not None:
            self.on_look()
        looked = [watch.look(step) for watch in due] if is_main_process() else []  # all of them, whoever ends it
        ends = [any(looked)]
        if process_count() > 1:
            distributed.broadcast_object_list(ends)
        if ends[0]:
            control.should_training_stop = True


class _StepRecorder(TrainerCallback):
    """Passes every logged step on to the listener."""

    def __init__(self, steps: int, listener: StepListener | None) -> None:
        self.steps = steps
        self.listener = listener

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Called by the trainer after every step, since it logs each of them."""
        if self.listener is not None and logs is not None and "loss" in logs:
            self.listener(int(state.global_step), self.steps, float(logs["loss"]))


def _use_bf16(config: TrainingConfig, model: Model) -> bool:
    if config.query_adapter is not None:  # a few thousand weights: nothing is gained
        return False
    if config.precision == "auto":
        return supports_native_bf16(training_device(config, model))
    return config.precision == "bf16"


def _dropout(config: TrainingConfig, device: torch.device) -> float | None:
    if config.dropout == "auto":
        return 0.0 if device.type == "cpu" else None
    return config.dropout


def _log_of(history: list[dict[str, Any]], settings: _Settings, plan: TrainingPlan, *, seconds: float) -> TrainingLog:
    config = settings.config
    (learning_rate,) = config.rates(choose=False)
    schedule = schedule_of(config, len(plan.sources), seed=settings.seed)
    has_levels = graded_shape(config) == "triples" and GRADED in plan.rows
    steps = []
    for entry in (entry for entry in history if "loss" in entry):
        number, source = entry["step"], plan.sources[entry["step"] - 1]
        level = schedule(number - 1) if has_levels and source == GRADED else None
        loss, rate = float(entry["loss"]), float(entry["learning_rate"])
        steps.append(TrainingStep(number, loss, rate, None if level is None else int(level), source))
    return TrainingLog(
        candidate=settings.name,
        pooling=config.pooling,
        schedule=config.schedule,
        steps=len(plan.sources),
        batch_size=config.batch_size,
        learning_rate=learning_rate,
        temperature=config.temperature,
        precision="bf16" if settings.bf16 else "float32",
        rows=sum(plan.rows.values()),
        loss=config.loss,
        accumulation=config.accumulation,
        processes=process_count(),
        sources=plan.rows,
        history=tuple(steps),
        boundaries=tuple(boundaries(schedule, len(plan.sources))) if has_levels else (),
        seconds=round(seconds, 3),
        lengths=len(config.matryoshka),
        keep=config.keep,
    )
