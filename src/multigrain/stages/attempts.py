"""One training of a candidate with one learning rate, kept until it is known which rate answers validation best."""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.config import TrainingConfig
from multigrain.dataset.store import open_examples
from multigrain.display.progress import Progress, Task
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.query_side import KnownDocuments
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.results import BASE
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.records import GradedExample
from multigrain.stages.base import RunContext
from multigrain.stages.fingerprints import OUTCOME_FILE, scored_path, teachers_of
from multigrain.stages.models import RunModels
from multigrain.stages.observing import validation_sample
from multigrain.stages.selection import (
    Looks,
    known_documents,
    scores_in_words,
    validation_pools,
    validation_score,
)
from multigrain.stages.variants import Variant
from multigrain.storage.files import atomic_write
from multigrain.storage.parquet import StoredTable
from multigrain.storage.rundir import RunDirectory
from multigrain.training.curves import SimilaritySample
from multigrain.training.log import TrainingLog
from multigrain.training.processes import is_main_process
from multigrain.training.train import Watch, train_candidate

LOG_FILE: Final = "training_log.json"
_STOPPING: Final = "stopping after this step; a checkpoint is written first (Ctrl-C again: at once, without one)"
_TIMED_STEPS: Final = 4
_WORTH_SAYING: Final = 90.0  # seconds
_OFTEN: Final = 50  # passes over the rows from which on a person should hear of them


def training_rows(run: RunDirectory, settings: TrainingConfig) -> StoredTable[GradedExample]:
    """The graded rows that a candidate is trained on: with its teachers' scores, where it learns from any."""
    teachers = teachers_of(settings)
    return open_examples(scored_path(run, teachers) if teachers else run.dataset_path)


@dataclass
class Pools:
    """What all trainings of a candidate share: what validation queries search, and the base that adapters move.

    Made once, with the first base model at hand.

    Attributes:
        whole: the validation sets, where anything is chosen by them.
        seen: the same, also where nothing is: the similarity curves ask them.
        models: of the run.
    """

    context: RunContext
    settings: TrainingConfig
    whole: tuple[EvaluationSet, ...]
    seen: tuple[EvaluationSet, ...]
    models: RunModels
    _made: tuple[EvaluationSet, ...] | None = None
    _documents: KnownDocuments | None = None
    _samples: dict[int, SimilaritySample | None] = field(default_factory=dict)

    def of(self, model: SentenceTransformer) -> tuple[EvaluationSet, ...]:
        """The pools, for the main process; the others look at nothing.

        Args:
            model: the base model, before it is tuned.
        """
        if not is_main_process():
            return ()
        if self._made is None:
            config = self.context.config
            with self._ranking(model) as encoder:
                self._made = validation_pools(self.whole, encoder, self.settings, seed=config.seed)
        return self._made

    @contextmanager
    def _ranking(self, model: SentenceTransformer) -> Iterator[Encoder]:
        """The base model, which ranks what the pools are drawn from; the evaluation need not embed that again."""
        config = self.context.config
        if self.settings.side == "query":  # documents are stored vectors
            with encoding_precision(config, model):
                yield SentenceTransformerEncoder(model, batch_size=config.evaluation.batch_size)
            return
        with closing(self.models.encoder(BASE, model)) as encoder:
            yield encoder

    def score(self, model: SentenceTransformer) -> float:
        """nDCG@10 of a model on the pools' queries; where queries alone are tuned, documents are embedded once.

        Args:
            model: the candidate.
        """
        config, pools = self.context.config, self.of(model)
        if self._documents is None and self.settings.side == "query":
            self._documents = known_documents(model, pools, config)
        return validation_score(model, pools, config, self._documents)

    def sample(self, rows: int) -> SimilaritySample | None:
        """What the similarity curves ask of the validation sets: so many rows; None where there are too few."""
        if rows not in self._samples:
            self._samples[rows] = validation_sample(self.seen, rows, self.context.config)
        return self._samples[rows]


@dataclass(frozen=True)
class Outcome:
    """What one training came to: its counts, and its validation nDCG@10; None where nothing was chosen by it."""

    counts: dict[str, Any]
    score: float | None


@dataclass(frozen=True)
class Attempt(ABC):
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
    def folder(self) -> str:
        """The name of the folder of its checkpoints."""
        return checkpoint_folder(self.name, self.fingerprint, self.settings) + self.variant.folder

    @property
    def kept_path(self) -> Path:
        """Where what it came to is kept until the best rate is known."""
        return self.context.run.checkpoints_path / f"{self.folder}-kept"

    @property
    def _outcome_path(self) -> Path:
        return self.kept_path / OUTCOME_FILE

    @property
    def model_path(self) -> Path:
        """The tuned model, once it is there."""
        return self.kept_path / "model"

    def clear(self) -> None:
        """Remove what was kept for the choice."""
        shutil.rmtree(self.kept_path, ignore_errors=True)

    @property
    def is_kept(self) -> bool:
        """Whether the model was tuned before an interruption; the main process's word goes."""
        return self._outcome_path.exists() and self.model_path.is_dir()

    def kept(self) -> Outcome:
        """What the tuning before an interruption came to; the main process alone reads it, which may clear it soon."""
        if not is_main_process():
            return Outcome({}, None)
        return Outcome(**json.loads(self._outcome_path.read_text(encoding="utf-8")))

    def tune(self, validation: Pools) -> Outcome:
        """Tune the model, in all processes together."""
        outcome = self._tune(validation)
        if is_main_process():
            atomic_write(self._outcome_path, json.dumps(asdict(outcome)))
        return outcome

    def train(
        self, model: SentenceTransformer | CrossEncoder, examples: Sequence[GradedExample], watches: Sequence[Watch]
    ) -> tuple[TrainingLog, dict[str, Any]]:
        """Train a model in place, in all processes together.

        Args:
            model: as it was built.
            examples: the rows.
            watches: look at the model now and then.

        Returns:
            Its log, and the counts of the stage's manifest.
        """
        context, settings = self.context, self.settings
        steps = settings.steps_for(len(examples))
        self._say_how_often(steps, len(examples))
        with context.progress.task(f"Training {self.title}", steps, unit="steps") as task:
            log = train_candidate(
                model,
                examples,
                settings,
                name=self.name,
                seed=context.config.seed,
                # Checkpoints of other settings must never be resumed from: their folder is named for these.
                checkpoints=context.run.checkpoints_path / self.folder,
                logs=context.run.logs_path / self.folder,
                on_step=_Advance(task, context.progress, self.title),
                on_note=lambda line: context.progress.say(f"{self.title}: {line}"),
                on_interrupt=lambda: context.progress.remark(_STOPPING),
                on_look=lambda: task.advance(0, note="evaluating"),
                watches=watches,
            )
        counts: dict[str, Any] = {"candidate": self.name, "rows": log.rows, "steps": log.steps}
        if is_main_process():
            first, last = log.history[0].loss, log.history[-1].loss
            took = f"{len(log.history)} steps in {log.seconds:.0f} s, loss {first:.3f} → {last:.3f}"
            context.progress.say(f"{self.title}: {took}")
            counts |= {"first_loss": first, "last_loss": last}
        return log, counts

    def keep_best(
        self, looks: Looks | None, log: TrainingLog, counts: dict[str, Any]
    ) -> tuple[TrainingLog, float | None]:
        """Leave the model with the weights to keep, where validation queries were asked.

        Returns:
            The log with what was seen, and the score of what is kept; None where nothing was asked.
        """
        if looks is None or not looks.scores:
            return log, None
        kept = looks.keep(self.settings.keep)
        counts |= {"kept_step": kept}
        by_step = scores_in_words({str(step): value for step, value in looks.scores.items()})
        self.context.progress.say(f"{self.title}: step {kept} kept (validation nDCG@10 by step {by_step})")
        return replace(log, kept_step=kept, validation=dict(looks.scores)), looks.scores[kept]

    def _say_how_often(self, steps: int, rows: int) -> None:
        """Tell where each row is shown very often."""
        if (passes := steps * self.settings.batch_size / max(rows, 1)) > _OFTEN:
            self.context.progress.say(
                f"{self.title}: {steps} steps of {self.settings.batch_size} show each of the {rows} rows about "
                f"{passes:.0f} times: a smaller training.steps takes less time, more documents teach more"
            )

    @abstractmethod
    def _tune(self, validation: Pools) -> Outcome: ...


def checkpoint_folder(name: str, fingerprint: str, settings: TrainingConfig) -> str:
    """The name of the folder of a candidate's checkpoints."""
    # The same model comes out of sharded training, but checkpoints are of another form.
    return f"{name}-{fingerprint[:12]}{'-sharded' if settings.fsdp else ''}"


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
