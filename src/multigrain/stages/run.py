"""All stages, or some of them, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from multigrain.audit.checks import active_checks
from multigrain.config import Config
from multigrain.display.progress import Progress, SilentProgress
from multigrain.errors import ConfigError
from multigrain.model.attention.implementation import check_implementation
from multigrain.stages.context import RunContext
from multigrain.stages.fingerprints import candidate_stage_name
from multigrain.stages.selection import check_choice
from multigrain.storage.rundir import RunDirectory
from multigrain.training.losses.registry import check_losses
from multigrain.training.processes import check_sharding, is_main_process, leave_together, process_count
from multigrain.training.trackers import check_trackers

__all__ = ["STAGES", "Stage", "run", "run_stages", "stage_summaries"]

# Stages import torch and much else; each is imported when it is its turn.


def _documents(context: RunContext) -> None:
    from multigrain.stages.documents import documents_stage

    documents_stage(context)


def _synthesis(context: RunContext) -> None:
    from multigrain.stages.synthesis import synthesis_stage

    synthesis_stage(context)


def _check_prices(config: Config) -> None:
    from multigrain.stages.preflight import check_prices

    check_prices(config)


def _check_heldout(context: RunContext) -> None:
    from multigrain.stages.heldout import check_heldout

    check_heldout(context)


def _preflight(context: RunContext, stages: Sequence[str]) -> None:
    from multigrain.stages.preflight import preflight

    preflight(context, stages)


def _audit(context: RunContext) -> None:
    from multigrain.stages.audit import audit_stage

    audit_stage(context)


def _training(context: RunContext) -> None:
    from multigrain.stages.training import training_stage

    training_stage(context)


def _evaluation(context: RunContext) -> None:
    from multigrain.stages.evaluation import evaluation_stage

    evaluation_stage(context)


def _report(context: RunContext) -> None:
    from multigrain.stages.report import report_stage

    report_stage(context)


class Stage(NamedTuple):
    """A stage of a run.

    Attributes:
        work: runs it.
        folders: for a config, the folders of the run directory whose manifests say that it is complete.
    """

    work: Callable[[RunContext], None]
    folders: Callable[[Config], list[str]]


STAGES: Final = {
    "documents": Stage(_documents, lambda config: ["documents"]),
    "synthesis": Stage(_synthesis, lambda config: ["synthesis"]),
    "audit": Stage(_audit, lambda config: ["dataset"]),
    "training": Stage(_training, lambda config: [candidate_stage_name(name) for name in config.training.candidates]),
    "evaluation": Stage(_evaluation, lambda config: ["results"]),
    "report": Stage(_report, lambda config: []),
}
"""Every stage by name, in order."""


def run(
    config: Config, directory: str | Path, *, progress: Progress | None = None, redo: bool = False
) -> RunDirectory:
    """Do everything: documents to report. Interrupted anywhere, the same call goes on where it stopped.

    Args:
        config: what to do.
        directory: where to keep it.
        progress: who is told; None for silence.
        redo: run complete stages again whose settings have changed, instead of refusing.

    Raises:
        MultigrainError: something that the user can mend.
    """
    return run_stages(config, directory, list(STAGES), progress=progress, redo=redo)


def run_stages(
    config: Config,
    directory: str | Path,
    stages: Sequence[str],
    *,
    progress: Progress | None = None,
    redo: bool = False,
) -> RunDirectory:
    """Do some of the stages, in the order given; see `run`.

    Under torchrun only training is done: every process computes, the first one alone writes and reports.
    """
    if process_count() > 1 and list(stages) != ["training"]:
        raise ConfigError(
            f"{process_count()} processes can only train together: complete the stages before with "
            "`multigrain audit`, start `multigrain train` with the launcher, and go on with `multigrain evaluate`"
        )
    if "audit" in stages:
        active_checks(config.audit.checks)
    if "training" in stages:
        check_sharding(config.training)
        check_losses(config.training)
        check_trackers(config.training)
        check_implementation(config.training.attn_implementation)
    check_choice(config, stages)
    if not is_main_process():
        context = RunContext(config, RunDirectory(Path(directory)), SilentProgress(), redo)
        STAGES["training"].work(context)
        leave_together()
        return context.run
    if "synthesis" in stages and RunDirectory(Path(directory)).manifest("synthesis") is None:
        _check_prices(config)
    with RunDirectory(Path(directory)).hold() as held:
        context = RunContext(config, held, progress or SilentProgress(), redo)
        before = _manifests(held)
        for stage in stages:
            if stage == "synthesis" and held.manifest("synthesis") is None:
                _preflight(context, stages)
            STAGES[stage].work(context)
            if stage == "synthesis" and "evaluation" in stages:
                _check_heldout(context)
        if process_count() > 1:
            leave_together()
        if len(stages) == len(STAGES) and _manifests(held) == before:
            context.progress.say("nothing left to do: every stage was complete before")
    return held


def _manifests(held: RunDirectory) -> dict[Path, str]:
    """What says of each stage that it is complete."""
    found = (*held.path.glob("*/manifest.json"), *held.path.glob("models/*/manifest.json"))
    return {path: path.read_text(encoding="utf-8") for path in found}


def stage_summaries(held: RunDirectory, config: Config, stages: Sequence[str]) -> dict[str, Any]:
    """The counts and seconds of what complete stages made, by folder, as `--json` prints them.

    Args:
        held: the run.
        config: what was asked for.
        stages: names of stages.
    """
    found = {folder: held.manifest(folder) for stage in stages for folder in STAGES[stage].folders(config)}
    return {
        name: {**manifest.counts, "seconds": manifest.seconds}
        for name, manifest in found.items()
        if manifest is not None
    }
