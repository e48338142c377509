"""All stages, or some of them, in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multigrain.config import Config
from multigrain.display.progress import Progress, SilentProgress
from multigrain.errors import ConfigError
from multigrain.stages.base import REDO, RUN_COMMAND, RunContext, as_begun
from multigrain.stages.preflight import check_heldout, check_selection
from multigrain.stages.table import STAGES
from multigrain.storage.objects import hold_store
from multigrain.storage.rundir import RunDirectory
from multigrain.training.processes import is_main_process, leave_together, process_count


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
    remedy: str = REDO,
    command: str = RUN_COMMAND,
) -> RunDirectory:
    """Do some of the stages, in the order given; see `run`, and `RunContext` for the remedy and the command.

    Under torchrun only training is done: every process computes, the first one alone writes and reports.
    """
    if process_count() > 1 and list(stages) != ["training"]:
        raise ConfigError(
            f"{process_count()} processes can only train together: complete the stages before with "
            "`multigrain audit`, start `multigrain train` with the launcher, and continue with `multigrain evaluate`"
        )
    chosen = [STAGES[name] for name in stages]
    config = as_begun(config, RunDirectory(Path(directory)), redo=redo)
    check_selection(config, stages)
    for stage in chosen:
        if stage.check_settings is not None:
            stage.check_settings(config, RunDirectory(Path(directory)))
    if not is_main_process():
        context = RunContext(config, RunDirectory(Path(directory)), SilentProgress(), redo, command=command)
        STAGES["training"].run(context)
        leave_together()
        return context.run
    with RunDirectory(Path(directory)).hold() as locked, hold_store(config.engine.store, locked) as store:
        context = RunContext(
            config, locked, progress or SilentProgress(), redo, remedy=remedy, store=store, command=command
        )
        before = locked.manifests()
        for stage in chosen:
            if stage.name == "synthesis" and locked.manifest(stage.folder) is None:
                for later in chosen:
                    if later.check_inputs is not None:
                        later.check_inputs(context)
            stage.run(context)
            if stage.name == "synthesis" and "evaluation" in stages:
                check_heldout(context)
        if process_count() > 1:
            leave_together()
        if len(chosen) == len(STAGES) and locked.manifests() == before:
            context.progress.say("nothing left to do: every stage was complete before")
    return locked


def stage_summaries(run: RunDirectory, config: Config, stages: Sequence[str]) -> dict[str, Any]:
    """The counts and seconds of what complete stages left, by folder, as `--json` prints them.

    Args:
        run: the run.
        config: what was asked for.
        stages: names of stages.
    """
    manifests = {folder: run.manifest(folder) for name in stages for folder in STAGES[name].folders(config)}
    return {
        folder: {**manifest.counts, "seconds": manifest.seconds}
        for folder, manifest in manifests.items()
        if manifest is not None
    }
