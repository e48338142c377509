"""An estimate of what the training stage would take. Trains a few steps of each candidate; writes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from multigrain.config import Config, TrainingConfig
from multigrain.config.candidates import RERANKER_LOSS, candidate_named
from multigrain.config.paths import SERVED_PREFIX
from multigrain.errors import ConfigError
from multigrain.model.reranker import build_reranker
from multigrain.stages.attempts import training_rows
from multigrain.stages.base import RunContext
from multigrain.stages.fingerprints import any_candidate, scored_path, teachers_of
from multigrain.stages.reranker import as_trained
from multigrain.stages.table import STAGES
from multigrain.stages.trainees import open_trainee
from multigrain.storage.rundir import RunDirectory
from multigrain.training.estimate import TrainingEstimate, estimate_training


def estimate_candidates(config: Config, directory: Path) -> list[TrainingEstimate]:
    """Measure the candidates that are still to be trained.

    Args:
        config: the run's.
        directory: the run directory, with its data set complete.

    Raises:
        StageOrderError: there is no data set yet.
        RunMismatchError: it was made with other settings.
        ModelError: the base model cannot be loaded or trained.
        ConfigError: it is behind an endpoint.
    """
    if config.training.base_model.startswith(SERVED_PREFIX):
        raise ConfigError(
            f"training.base_model: {config.training.base_model}: a dry run asks no endpoint; an adapter takes "
            "seconds to train, and `multigrain train` says what it sends before it does"
        )
    with tempfile.TemporaryDirectory() as vectors:  # a dry run keeps nothing
        context = RunContext(config, RunDirectory(directory), embeddings=Path(vectors))
        training = STAGES["training"]
        training.check_requirements(context)
        return [
            _estimate(context, name)
            for name, (folder, fingerprint) in zip(
                config.training.candidates, training.fingerprints(context).items(), strict=True
            )
            if not context.run.is_complete(folder, fingerprint)
        ]


def _estimate(context: RunContext, name: str) -> TrainingEstimate:
    config = context.config
    settings = _at_hand(context, config.training.resolve(name))
    examples = training_rows(context.run, settings)
    if settings.kind == "reranker":
        reranker = build_reranker(settings, seed=config.seed)
        return estimate_training(reranker, examples, settings, name=name, seed=config.seed)
    with open_trainee(context, settings) as trainee:
        return estimate_training(
            trainee.model,
            examples,
            settings,
            name=name,
            seed=config.seed,
            prepare=trainee.prepare,
            folder=trainee.saved,
        )


def _at_hand(context: RunContext, settings: TrainingConfig) -> TrainingConfig:
    """The settings without what other candidates have yet to make.

    That is: the embedders' base instead of the tuned one, and a loss without a teacher instead of one with it. Neither
    changes the time of a step by much.
    """
    named, teachers = candidate_named(settings.base_model), teachers_of(settings)
    if named is not None and not context.run.candidate_path(named).is_dir():
        settings = settings.model_copy(update={"base_model": context.config.training.base_model})
    if any_candidate(teachers) and not scored_path(context.run, teachers).exists():
        loss = RERANKER_LOSS if settings.kind == "reranker" else "infonce"
        settings = settings.model_copy(update={"loss": loss, "loss_options": {}, "teacher": []})
    return as_trained(context.run, settings)
