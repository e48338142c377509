"""Stage 4: train every candidate on the graded data set, and merge it with its base unless the config says otherwise.

Validation queries choose the learning rate, a query adapter's rank, the step and the share to merge, never test
queries.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sentence_transformers import SentenceTransformer

from multigrain.config import Merge, TrainingConfig
from multigrain.dataset.store import open_examples
from multigrain.display.progress import Progress, Task
from multigrain.errors import ModelError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import validation_sets
from multigrain.model.encoder import reading_at_most
from multigrain.records import GradedExample
from multigrain.stages.base import RunContext, Stage, complete_stage
from multigrain.stages.fingerprints import (
    candidate_fingerprint,
    candidate_folder,
    scored_path,
    teachers_of,
)
from multigrain.stages.observing import CurveWatch, validation_sample
from multigrain.stages.preflight import check_selection
from multigrain.stages.selection import Looks, scores_in_words, validation_pools, validation_score
from multigrain.stages.trainees import Trainee, open_trainee
from multigrain.stages.variants import Variant, best_by, variants_of
from multigrain.storage.files import atomic_directory, atomic_write
from multigrain.storage.parquet import StoredTable
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import is_table
from multigrain.training.checkpoints import abandoned_checkpoints
from multigrain.training.curves import sample_of_rows, sample_size
from multigrain.training.log import read_log
from multigrain.training.merging import WeightMerge, merge_shares
from multigrain.training.moved import WeightsBefore
from multigrain.training.notices import notices_of
from multigrain.training.processes import as_main_says, is_main_process
from multigrain.training.train import train_candidate

_LOG: Final = "training_log.json"
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
    seen = _validation(context, settings)
    validation = seen if settings.chooses else ()
    variants = variants_of(settings, choose=bool(validation))
    attempts = [_Attempt(context, name, variant, fingerprint, len(variants)) for variant in variants]
    pools = _Pools(context, settings, validation, seen)
    kept = as_main_says([attempt.is_kept for attempt in attempts])
    outcomes = [attempt.kept() if done else attempt.tune(pools) for attempt, done in zip(attempts, kept, strict=True)]
    if not is_main_process():
        return outcomes[0].counts
    # Of equal scores the lowest rate, then the lowest rank: it moved the base the least.
    scored = {
        (variant.rate, variant.rank): outcome.score or 0.0 for variant, outcome in zip(variants, outcomes, strict=True)
    }
    best = min(range(len(variants)), key=lambda place: (-(outcomes[place].score or 0.0), variants[place].order))
    counts = outcomes[best].counts
    with atomic_directory(context.run.candidate_path(name)) as folder:
        shutil.copytree(attempts[best].model_path, folder, dirs_exist_ok=True)
        log = read_log(folder / _LOG)
        if len(variants) > 1:
            by_rate, by_rank = (best_by(scored, part) for part in (0, 1))
            if len(by_rate) > 1:
                rate = variants[best].rate
                counts |= {"learning_rate": rate, "rates_by_validation": by_rate}
                context.progress.say(
                    f"{name}: learning rate {rate:g} chosen by validation nDCG@10 ({scores_in_words(by_rate)})"
                )
                log = replace(log, rates=by_rate)
            if len(by_rank) > 1:
                rank = variants[best].rank
                counts |= {"rank": rank, "ranks_by_validation": by_rank}
                context.progress.say(f"{name}: rank {rank} chosen by validation nDCG@10 ({scores_in_words(by_rank)})")
                log = replace(log, ranks=by_rank)
            log.save(folder / _LOG)
        for notice in log.notices:
            context.progress.say(f"{name}: {notice.words}")
        counts |= {"notices": [notice.name for notice in log.notices]}
    for attempt in attempts:
        attempt.clear()
    return counts


@dataclass
class _Pools:
    """What validation queries search while a candidate is tuned; made once, with the first base model at hand.

    Attributes:
        whole: the validation sets, where anything is chosen by them.
        seen: the same, also where nothing is: the similarity curves ask them.
    """

    context: RunContext
    settings: TrainingConfig
    whole: tuple[EvaluationSet, ...]
    seen: tuple[EvaluationSet, ...]
    _made: tuple[EvaluationSet, ...] | None = None

    def of(self, model: SentenceTransformer) -> tuple[EvaluationSet, ...]:
        """The pools, for the main process; the others look at nothing.

        Args:
            model: the base model, before it is tuned.
        """
        if not is_main_process():
            return ()
        if self._made is None:
            self._made = validation_pools(self.whole, model, self.context.config, self.settings)
        return self._made


@dataclass(frozen=True)
class _Outcome:
    """What one training came to: its counts, and its validation nDCG@10; None where nothing was chosen by it."""

    counts: dict[str, Any]
    score: float | None


@dataclass(frozen=True)
class _Attempt:
    """A candidate, tuned once as one of its variants; kept beside the checkpoints until the best one is known."""

    context: RunContext
    name: str
    variant: Variant
    fingerprint: str
    variants: int

    @property
    def settings(self) -> TrainingConfig:
        """Of the variant."""
        return self.variant.settings

    @property
    def title(self) -> str:
        """What progress calls it."""
        return f"{self.name}{self.variant.words}"

    @property
    def _folder(self) -> str:
        return _checkpoint_folder(self.name, self.fingerprint, self.settings) + self.variant.folder

    @property
    def _kept(self) -> Path:
        return self.context.run.checkpoints_path / f"{self._folder}-kept"

    @property
    def _outcome_path(self) -> Path:
        return self._kept / "outcome.json"

    @property
    def model_path(self) -> Path:
        """The tuned model, once it is there."""
        return self._kept / "model"

    def clear(self) -> None:
        """Remove what was kept for the choice."""
        shutil.rmtree(self._kept, ignore_errors=True)

    @property
    def is_kept(self) -> bool:
        """Whether the model was tuned before an interruption; the main process's word goes."""
        return self._outcome_path.exists() and self.model_path.is_dir()

    def kept(self) -> _Outcome:
        """What the tuning before an interruption came to; the main process alone reads it, which may clear it soon."""
        if not is_main_process():
            return _Outcome({}, None)
        return _Outcome(**json.loads(self._outcome_path.read_text(encoding="utf-8")))

    def tune(self, validation: _Pools) -> _Outcome:
        """Tune the model, in all processes together."""
        outcome = self._tune(validation)
        if is_main_process():
            atomic_write(self._outcome_path, json.dumps(asdict(outcome)))
        return outcome

    def _tune(self, validation: _Pools) -> _Outcome:
        with open_trainee(self.context, self.settings) as trainee:
            return self._tune_trainee(trainee, validation)

    def _tune_trainee(self, trainee: Trainee, validation: _Pools) -> _Outcome:
        context, settings, model = self.context, self.settings, trainee.model
        examples = training_rows(context.run, settings)
        context.progress.say(f"{self.title}: {trainee.words}")
        trainee.prepare(examples)
        steps = settings.steps_for(len(examples))
        if (passes := steps * settings.batch_size / max(len(examples), 1)) > _OFTEN:
            context.progress.say(
                f"{self.title}: {steps} steps of {settings.batch_size} show each of the {len(examples)} rows about "
                f"{passes:.0f} times: a smaller training.steps takes less time, more documents teach more"
            )
        pools = validation.of(model)
        looks = self._looks(model, pools, steps) if validation.whole else None
        curves = self._curves(model, validation.seen, examples, steps)
        before = WeightsBefore(model)
        merge = settings.merge_where(choose=bool(validation.whole))
        weights = self._weights(model, merge)
        with (
            context.progress.task(f"Training {self.title}", steps, unit="steps") as task,
            reading_at_most(model, settings.max_seq_length),
        ):
            log = train_candidate(
                model,
                examples,
                settings,
                name=self.name,
                seed=context.config.seed,
                # Checkpoints of other settings must never be resumed from: their folder is named for these.
                checkpoints=context.run.checkpoints_path / self._folder,
                logs=context.run.logs_path / self._folder,
                on_step=_Advance(task, context.progress, self.title),
                on_note=lambda line: context.progress.say(f"{self.title}: {line}"),
                on_interrupt=lambda: context.progress.remark(_STOPPING),
                watches=[watch for watch in (curves, looks) if watch is not None],
            )
        counts: dict[str, Any] = {"candidate": self.name, "rows": log.rows, "steps": log.steps}
        if not is_main_process():
            return _Outcome(counts, None)
        first, last = log.history[0].loss, log.history[-1].loss
        took = f"{len(log.history)} steps in {log.seconds:.0f} s, loss {first:.3f} → {last:.3f}"
        context.progress.say(f"{self.title}: {took}")
        counts |= {"first_loss": first, "last_loss": last}
        score = None
        taken = kept_step = log.history[-1].step
        if looks is not None and looks.scores:
            kept_step = looks.keep(settings.keep)
            log = replace(log, kept_step=kept_step, validation=dict(looks.scores))
            counts |= {"kept_step": kept_step}
            score = looks.scores[kept_step]
            by_step = scores_in_words({str(step): value for step, value in looks.scores.items()})
            context.progress.say(f"{self.title}: step {kept_step} kept (validation nDCG@10 by step {by_step})")
        if weights is not None and merge is not None:
            shares = merge_shares(merge, identity=settings.query_adapter is not None)
            share, scores = _merge(context, model, weights, shares, pools)
            tried = scores_in_words(scores)
            context.progress.say(
                f"{self.title}: merged {share:g} of the tuned weights with {1 - share:g} of the base's"
                + (f" (validation nDCG@10 by share {tried})" if tried else "")
            )
            log = replace(log, merged=share)
            counts |= {"merged": share, "merged_by_validation": scores}
            score = max(scores.values(), default=score)
        elif score is None and self.variants > 1:
            score = validation_score(model, pools, context.config)
        changed = kept_step != taken or log.merged not in (None, 1.0)
        seen = None if curves is None else curves.curves(kept_step, changed=changed)
        # An adapter begins at nothing, which no change is a share of.
        moved = before.moved(model) if settings.query_adapter is None else None
        log = replace(log, weights_moved=moved, curves=seen)
        log = replace(log, notices=notices_of(log))
        with atomic_directory(self.model_path) as folder:
            trainee.save(folder)
            log.save(folder / _LOG)
        return _Outcome(counts, score)

    def _weights(self, model: SentenceTransformer, merge: Merge | None) -> WeightMerge | None:
        if merge is None:
            return None
        try:
            return WeightMerge(model)
        except ModelError as error:
            if merge != "auto":
                raise
            self.context.progress.say(f"{self.title}: merged with nothing: {error}")
            return None

    def _curves(
        self,
        model: SentenceTransformer,
        validation: Sequence[EvaluationSet],
        examples: Sequence[GradedExample],
        steps: int,
    ) -> CurveWatch | None:
        if self.settings.fsdp:  # what is tuned then lies in shards, and this model waits for them
            return None
        config = self.context.config
        rows, every = sample_size(steps, self.settings.batch_size)
        asked = None
        if is_main_process():
            asked = validation_sample(validation, rows, config) or sample_of_rows(examples, rows, seed=config.seed)
        return CurveWatch(model, asked, config, self.settings.max_seq_length, every, self._kept / "curves.json")

    def _looks(self, model: SentenceTransformer, pools: Sequence[EvaluationSet], steps: int) -> Looks | None:
        every = self.settings.looks_after(steps)
        return None if every is None else Looks(model, pools, self.context.config, every, self._kept)


def _checkpoint_folder(name: str, fingerprint: str, settings: TrainingConfig) -> str:
    # The same model comes out of sharded training, but checkpoints are of another form.
    return f"{name}-{fingerprint[:12]}{'-sharded' if settings.fsdp else ''}"


def _tidy(context: RunContext) -> None:
    """Name the checkpoints of other settings, which nothing goes on from; remove them where stages are redone."""
    training = context.config.training
    current = tuple(
        _checkpoint_folder(name, candidate_fingerprint(context, name), training) for name in training.candidates
    )
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


def _validation(context: RunContext, settings: TrainingConfig) -> tuple[EvaluationSet, ...]:
    """The validation queries, where there are any."""
    if not settings.chooses and not is_table(context.run.documents_path):
        return ()
    sets = validation_sets(context.config, context.run)
    if settings.chooses and not sets:
        check_selection(context.config, ["training"], none_held_out=True)
    return sets


def _merge(
    context: RunContext,
    model: SentenceTransformer,
    weights: WeightMerge,
    shares: Sequence[float],
    pools: Sequence[EvaluationSet],
) -> tuple[float, dict[str, float]]:
    """Merge a tuned model in place, with the weights that were taken of it before, at the best of some shares.

    Returns:
        The share of the tuned weights, and the nDCG@10 on the validation queries of every share that was tried (of
        several sets: the mean over sets); none for a fixed share.
    """
    scores: dict[float, float] = {}
    if pools and len(shares) > 1:
        with context.progress.task("Choosing the share to merge", len(shares)) as task:
            for share in shares:
                weights.apply(model, share)
                scores[share] = validation_score(model, pools, context.config)
                task.advance(note=f"{share:g}: {scores[share]:.3f}")
    # Of equal scores the share that moved the base the least.
    chosen = max(scores, key=lambda share: (scores[share], -share)) if scores else shares[0]
    weights.apply(model, chosen)
    return chosen, {f"{share:g}": score for share, score in scores.items()}
