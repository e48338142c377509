"""Stage 4: train every candidate on the graded data set, and merge it with its base where the config says so.

Validation queries choose the share to merge, never test queries.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Final

from sentence_transformers import SentenceTransformer

from multigrain.config import Merge, TrainingConfig
from multigrain.dataset.store import open_examples
from multigrain.display.progress import Progress, Task
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import validation_sets
from multigrain.model.encoder import build_candidate, describe_encoder, save_candidate
from multigrain.records import GradedExample
from multigrain.stages.base import RunContext, Stage, complete_stage
from multigrain.stages.fingerprints import (
    candidate_fingerprint,
    candidate_folder,
    scored_path,
    teachers_of,
)
from multigrain.stages.preflight import check_selection
from multigrain.storage.files import atomic_directory
from multigrain.storage.parquet import StoredTable
from multigrain.storage.rundir import RunDirectory
from multigrain.training.checkpoints import abandoned_checkpoints
from multigrain.training.merging import WeightMerge, merge_shares
from multigrain.training.processes import is_main_process
from multigrain.training.train import train_candidate

_TIMED_STEPS: Final = 4
_WORTH_SAYING: Final = 90.0  # seconds
_STOPPING: Final = "stopping after this step; a checkpoint is written first (Ctrl-C again: at once, without one)"
_OFTEN: Final = 50  # passes over the rows from which on a person should hear of them


def run(context: RunContext, _: Stage) -> None:
    """Train the config's candidates, one after another."""
    if is_main_process():
        _tidy(context)
    for name in context.config.training.candidates:
        run_candidate(context, name)


def run_candidate(context: RunContext, name: str, *, data: RunContext | None = None) -> None:
    """Train one candidate on a data set that is complete and current.

    Args:
        context: the run.
        name: the candidate.
        data: the context that made the data set, where candidates of other seeds are trained on it too.
    """
    fingerprint = candidate_fingerprint(context, name, data=data)
    settings = context.config.training.resolve(name)
    folder = candidate_folder(name)
    if is_main_process():
        complete_stage(context, folder, fingerprint, lambda: _train(context, name, settings, fingerprint))
    elif not context.run.is_complete(folder, fingerprint):
        # It trains along; the main process alone decides, writes and reports.
        _train(context, name, settings, fingerprint)


def training_rows(run: RunDirectory, settings: TrainingConfig) -> StoredTable[GradedExample]:
    """The graded rows that a candidate is trained on: with its teachers' scores, where it learns from any."""
    teachers = teachers_of(settings)
    return open_examples(scored_path(run, teachers) if teachers else run.dataset_path)


def _train(context: RunContext, name: str, settings: TrainingConfig, fingerprint: str) -> dict[str, Any]:
    examples = training_rows(context.run, settings)
    model = build_candidate(settings, seed=context.config.seed)
    context.progress.say(f"{name}: {describe_encoder(model, settings.base_model)}")
    steps = settings.steps_for(len(examples))
    if (passes := steps * settings.batch_size / max(len(examples), 1)) > _OFTEN:
        context.progress.say(
            f"{name}: {steps} steps of {settings.batch_size} show each of the {len(examples)} rows about "
            f"{passes:.0f} times: a smaller training.steps takes less time, more documents teach more"
        )
    validation = _validation_for_merge(context, settings)
    weights = WeightMerge(model) if settings.merge is not None else None
    with context.progress.task(f"Training {name}", steps, unit="steps") as task:
        log = train_candidate(
            model,
            examples,
            settings,
            name=name,
            seed=context.config.seed,
            # Checkpoints of other settings must never be resumed from: their folder is named for these.
            checkpoints=context.run.checkpoints_path / _checkpoint_folder(name, fingerprint, settings),
            logs=context.run.logs_path / _checkpoint_folder(name, fingerprint, settings),
            on_step=_Advance(task, context.progress, name),
            on_note=lambda line: context.progress.say(f"{name}: {line}"),
            on_interrupt=lambda: context.progress.remark(_STOPPING),
        )
    counts = {"candidate": name, "rows": log.rows, "steps": log.steps}
    if not is_main_process():
        return counts
    first, last = log.history[0].loss, log.history[-1].loss
    context.progress.say(f"{name}: {log.steps} steps in {log.seconds:.0f} s, loss {first:.3f} → {last:.3f}")
    counts |= {"first_loss": first, "last_loss": last}
    if weights is not None and settings.merge is not None:
        share, scores = _merge(context, model, weights, settings.merge, validation)
        tried = ", ".join(f"{tried_share}: {score:.3f}" for tried_share, score in scores.items())
        context.progress.say(
            f"{name}: merged {share:g} of the tuned weights with {1 - share:g} of the base's"
            + (f" (validation nDCG@10 by share {tried})" if tried else "")
        )
        log = replace(log, merged=share)
        counts |= {"merged": share, "merged_by_validation": scores}
    with atomic_directory(context.run.candidate_path(name)) as folder:
        save_candidate(model, folder, settings)
        log.save(folder / "training_log.json")
    return counts


def _checkpoint_folder(name: str, fingerprint: str, settings: TrainingConfig) -> str:
    # The same model comes out of sharded training, but checkpoints are of another form.
    return f"{name}-{fingerprint[:12]}{'-sharded' if settings.fsdp else ''}"


def _tidy(context: RunContext) -> None:
    """Name the checkpoints of other settings, which nothing goes on from; remove them where stages are redone."""
    training = context.config.training
    current = {
        _checkpoint_folder(name, candidate_fingerprint(context, name), training) for name in training.candidates
    }
    abandoned = abandoned_checkpoints(context.run.checkpoints_path, current)
    if not abandoned:
        return
    size = sum(path.stat().st_size for folder in abandoned for path in folder.rglob("*") if path.is_file())
    listed = ", ".join(folder.name for folder in abandoned)
    if context.redo:
        for folder in abandoned:
            shutil.rmtree(folder)
        context.progress.say(f"checkpoints of other settings removed: {listed} ({size / 1e6:,.0f} MB)")
    else:
        context.progress.say(
            f"checkpoints of other settings are kept in {context.run.checkpoints_path}: {listed} "
            f"({size / 1e6:,.0f} MB); --redo removes them"
        )


@dataclass
class _Advance:
    """Moves a progress task along with the trainer's steps, also after a resume, and says how long it will take."""

    task: Task
    progress: Progress
    name: str
    _steps_before: int = 0
    _times: list[float] = field(default_factory=list)

    def __call__(self, step: int, steps: int, loss: float) -> None:
        if step > self._steps_before + 1:  # the first after a resume: an earlier session took those before it
            self.task.advance(step - 1 - self._steps_before, resumed=True)
            self._steps_before = step - 1
        self.task.advance(step - self._steps_before, note=f"loss {loss:.3f}")
        self._steps_before = step
        self._times.append(time.monotonic())
        if len(self._times) == _TIMED_STEPS:
            seconds = (self._times[-1] - self._times[0]) / (_TIMED_STEPS - 1) * (steps - step)
            if seconds > _WORTH_SAYING:
                self.progress.say(
                    f"{self.name}: about {seconds / 60:.0f} min for the {steps - step:,} steps that remain"
                )


def _validation_for_merge(context: RunContext, settings: TrainingConfig) -> tuple[EvaluationSet, ...]:
    """The validation queries, where there is a share to choose; else none."""
    if not settings.chooses_share:
        return ()
    sets = validation_sets(context.config, context.run)
    if not sets:
        check_selection(context.config, ["training"], none_held_out=True)
    return sets


def _merge(
    context: RunContext,
    model: SentenceTransformer,
    weights: WeightMerge,
    merge: Merge,
    validation: Sequence[EvaluationSet],
) -> tuple[float, dict[str, float]]:
    """Merge a tuned model in place, with the weights that were taken of it before.

    Returns:
        The share of the tuned weights, and the nDCG@10 on the validation queries of every share that was tried (of
        several sets: the mean over sets); none for a fixed share.
    """
    shares = merge_shares(merge)
    scores: dict[float, float] = {}
    if validation:
        with (
            encoding_precision(context.config, model),
            context.progress.task("Choosing the share to merge", len(shares)) as task,
        ):
            for share in shares:
                weights.apply(model, share)
                encoder = SentenceTransformerEncoder(model, batch_size=context.config.evaluation.batch_size)
                scores[share] = fmean(
                    evaluate_retrieval(encoder, validation_set).ndcg_at_10 for validation_set in validation
                )
                task.advance(note=f"{share:g}: {scores[share]:.3f}")
    # Of equal scores the share that moved the base the least.
    chosen = max(scores, key=lambda share: (scores[share], -share)) if scores else shares[0]
    weights.apply(model, chosen)
    return chosen, {f"{share:g}": score for share, score in scores.items()}
