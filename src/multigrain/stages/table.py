"""The stages of a run, in order. Nothing else says which there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multigrain.config import Config, TeacherConfig
from multigrain.stages.base import RunContext, Stage
from multigrain.stages.fingerprints import (
    OUTCOME_FILE,
    any_candidate,
    candidate_fingerprint,
    candidate_folder,
    dataset_fingerprint,
    documents_fingerprint,
    results_fingerprint,
    scores_fingerprint,
    scores_folder,
    synthesis_fingerprint,
    teachers_of,
)
from multigrain.stages.preflight import (
    check_audit_settings,
    check_models,
    check_rivals,
    check_sets,
    check_teachers,
    check_training_settings,
    check_unwritten_prices,
)
from multigrain.storage.rundir import RunDirectory

_CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, kw_only=True)
class _CandidatesStage(Stage):
    """Training: a folder for every candidate."""

    def folders(self, config: Config | None, run: RunDirectory | None = None) -> tuple[str, ...]:
        trained = () if run is None else sorted(run.path.glob("models/*/manifest.json"))
        names = [*(() if config is None else config.training.candidates), *(path.parent.name for path in trained)]
        return tuple(map(candidate_folder, dict.fromkeys(names)))

    def fingerprints(self, context: RunContext) -> dict[str, str]:
        names = context.config.training.candidates
        return {candidate_folder(name): candidate_fingerprint(context, name) for name in names}

    def progress(self, run: RunDirectory, folder: str, config: Config | None) -> str | None:
        name = folder.rpartition("/")[2]
        own = re.compile(rf"{re.escape(name)}-([0-9a-f]{{12}})(?![0-9a-z]).*")
        found = [
            (match[1], path) for path in run.checkpoints_path.glob(f"{name}-*") if (match := own.fullmatch(path.name))
        ]
        # Checkpoints of other settings may lie there too; what was written last is under way.
        last = max(found, key=lambda each: each[1].stat().st_mtime, default=("",))[0]
        begun = [path for made_with, path in found if made_with == last]
        steps = [
            int(match[1])
            for path in begun
            for checkpoint in path.glob("checkpoint-*")
            if (match := _CHECKPOINT.fullmatch(checkpoint.name))
        ]
        # One for every learning rate and rank that validation queries choose from.
        done = sum((path / OUTCOME_FILE).exists() for path in begun)
        words = [f"{done} trainings done"] if done > 1 else ["1 training done"] if done else []
        words += [f"step {max(steps)}{_of_steps(run, config)}"] if steps else []
        return ", ".join(words) if begun else None


@dataclass(frozen=True, kw_only=True)
class _TeachersStage(Stage):
    """Scoring: a folder for the teachers that candidates learn from; none where no candidate has any."""

    def folders(self, config: Config | None, run: RunDirectory | None = None) -> tuple[str, ...]:
        lists = [] if config is None else _lists(config)
        return tuple(dict.fromkeys(map(scores_folder, lists)))

    def fingerprints(self, context: RunContext) -> dict[str, str]:
        return {scores_folder(teachers): scores_fingerprint(context, teachers) for teachers in _lists(context.config)}


def _lists(config: Config) -> list[list[TeacherConfig]]:
    """The teachers of each candidate, but for those with a candidate among them, which score while others train."""
    training = config.training
    lists = [teachers_of(training.resolve(name)) for name in training.candidates]
    return [teachers for teachers in lists if teachers and not any_candidate(teachers)]


def _of_steps(run: RunDirectory, config: Config | None) -> str:
    """How many steps training takes, where that is known: it may depend on the rows that the audit kept."""
    dataset = run.manifest(_AUDIT.folder)
    if config is None or (dataset is None and config.training.steps == "auto"):
        return ""
    return f" of {config.training.steps_for(0 if dataset is None else dataset.counts['kept'])}"


_DOCUMENTS: Final = Stage(
    name="documents",
    command="synthesize",
    module="multigrain.stages.documents",
    folder="documents",
    fingerprint=lambda context: documents_fingerprint(context.config),
    begun="documents/documents.parquet",
    shown=("documents", "train", "validation", "test"),
)
_SYNTHESIS: Final = Stage(
    name="synthesis",
    command="synthesize",
    module="multigrain.stages.synthesis",
    folder="synthesis",
    fingerprint=synthesis_fingerprint,
    requires=(_DOCUMENTS,),
    begun="synthesis/journal.sqlite",
    shown=("requested", "written"),
    check_settings=check_unwritten_prices,
)
_AUDIT: Final = Stage(
    name="audit",
    command="audit",
    module="multigrain.stages.audit",
    folder="dataset",
    fingerprint=dataset_fingerprint,
    requires=(_SYNTHESIS,),
    begun="dataset/rejects.parquet",
    shown=("written", "kept"),
    check_settings=check_audit_settings,
)
_TEACHERS: Final = _TeachersStage(
    name="teachers",
    command="audit",
    module="multigrain.stages.teachers",
    requires=(_AUDIT,),
    shown=("passages", "scored"),
    check_inputs=check_teachers,
)
_TRAINING: Final = _CandidatesStage(
    name="training",
    command="train",
    module="multigrain.stages.training",
    requires=(_AUDIT, _TEACHERS),
    shown=("rows", "steps"),
    check_settings=check_training_settings,
    check_inputs=check_models,
)
_EVALUATION: Final = Stage(
    name="evaluation",
    command="evaluate",
    module="multigrain.stages.evaluation",
    folder="results",
    fingerprint=results_fingerprint,
    requires=(_TRAINING,),
    begun="results/evaluation.json",
    shown=("chosen",),
    check_settings=check_rivals,
    check_inputs=check_sets,
)
_REPORT: Final = Stage(name="report", command="report", module="multigrain.stages.report", requires=(_EVALUATION,))

STAGES: Final[dict[str, Stage]] = {
    stage.name: stage for stage in (_DOCUMENTS, _SYNTHESIS, _AUDIT, _TEACHERS, _TRAINING, _EVALUATION, _REPORT)
}
"""Every stage by name, in order."""


def stages_of(command: str) -> list[str]:
    """The names of the stages that a subcommand runs, in order; `run` runs all of them."""
    return [stage.name for stage in STAGES.values() if command in ("run", stage.command)]


def invalidate(context: RunContext, stage: Stage) -> None:
    """Forget that a stage is complete, and all that read its output, the last of them first."""
    outdated = [stage]
    for later in STAGES.values():
        if any(earlier in outdated for earlier in later.requires):
            outdated.append(later)
    for forgotten in reversed(outdated):
        for folder in forgotten.folders(context.config):
            context.run.invalidate(folder)
