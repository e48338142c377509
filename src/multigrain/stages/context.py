"""What every stage is given, and the rule by which a stage is run, skipped or refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config import Config
from multigrain.display.progress import Progress, SilentProgress
from multigrain.display.text import without_credentials
from multigrain.errors import MultigrainError, RunMismatchError
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory, StageManifest

REDO: Final = "choose another directory with --run, or --redo to run the stage again (finished completions are reused)"
"""What to do about a stage that was completed with other settings, where the command has these options."""

STOPPING: Final = "stopping: every answer that has arrived is kept"
"""What is said at Ctrl-C while a language model is asked."""


@dataclass(frozen=True)
class RunContext:
    """A run under way.

    Attributes:
        config: what was asked for.
        run: where it is kept.
        progress: who is told.
        redo: whether a complete stage whose settings have changed is run again instead of refused.
        embeddings: a folder that keeps the reference model's vectors for other runs; None keeps none.
        remedy: what to do about a stage that was completed with other settings, in words; {folder} is its folder.
    """

    config: Config
    run: RunDirectory
    progress: Progress = field(default_factory=SilentProgress)
    redo: bool = False
    embeddings: Path | None = None
    remedy: str = REDO

    def save_config(self) -> None:
        """Keep the config beside what it made."""
        values = self.config.model_dump(mode="json")
        atomic_write(self.run.config_path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def complete_stage(
    context: RunContext, folder: str, fingerprint: str, work: Callable[[], dict[str, Any]]
) -> StageManifest:
    """Do the work of a stage unless it is complete already.

    Args:
        context: the run.
        folder: the folder of the run directory that the stage's manifest lies in.
        fingerprint: over everything that decides the stage's output.
        work: writes the stage's artifact and returns its counts.

    Raises:
        RunMismatchError: the stage is complete, but from other settings or inputs, and redoing was not asked for.
    """
    manifest = context.run.manifest(folder)
    if manifest is not None and manifest.fingerprint == fingerprint:
        context.progress.say(f"{folder}: complete since {manifest.finished_at}, kept")
        return manifest
    if manifest is not None and not context.redo:
        raise RunMismatchError(
            f"run directory {context.run.path}: stage {folder!r} was completed with other settings"
            f"{differences(context, manifest)}; {context.remedy.format(folder=context.run.path / folder)}"
        )
    context.run.invalidate(folder)
    started = time.monotonic()
    try:
        counts = work()
    except MultigrainError as error:
        context.run.note_failure(folder, str(error))
        raise
    context.save_config()
    return context.run.finish(
        folder, fingerprint, counts, time.monotonic() - started, settings=context.config.model_dump(mode="json")
    )


def differences(context: RunContext, manifest: StageManifest) -> str:
    """The settings that have changed since a stage was completed, in words for an error message."""
    before, now = _flatten(manifest.settings), _flatten(context.config.model_dump(mode="json"))
    changed = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return without_credentials(f" ({'; '.join(changed)})") if changed and manifest.settings else " or inputs"


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flatten(value, f"{prefix}.{key}".lstrip(".")))
    return flat
