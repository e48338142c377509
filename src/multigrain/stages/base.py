"""What a stage is: one object that says how it is named, run, recognised as complete and summed up.

The stages themselves stand in `multigrain.stages.table`; what each does is in a module of its own, loaded when it is
its turn, because those load torch and much else.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config import Config
from multigrain.display.progress import Progress, SilentProgress
from multigrain.display.text import without_credentials
from multigrain.errors import MultigrainError, RunMismatchError
from multigrain.mining.vectors import IN_MEMORY
from multigrain.storage.files import atomic_write
from multigrain.storage.objects import StageStore
from multigrain.storage.rundir import RunDirectory, StageManifest

REDO: Final = "choose another directory with --run, or --redo to run the stage again (finished completions are reused)"
"""What to do about a stage that was completed with other settings, where the command has these options."""

RUN_COMMAND: Final = "multigrain run CONFIG"
"""What runs all stages, where nobody has said what the config's file is called."""

STOPPING: Final = "stopping: every answer that has arrived is kept"
"""What is said at Ctrl-C while a language model is asked."""


def run_command_for(config: Path, directory: Path | None) -> str:
    """The command that runs all stages.

    Args:
        config: its file.
        directory: the run's, where it is not the one that is named after the config; else None.
    """
    return shlex.join(["multigrain", "run", str(config), *([] if directory is None else ["--run", str(directory)])])


@dataclass(frozen=True)
class RunContext:
    """A run under way. One that an earlier version began goes on with that version's defaults, unless it is redone.

    Attributes:
        config: what was asked for.
        run: where it is kept.
        progress: who is told.
        redo: whether a complete stage whose settings have changed is run again instead of refused.
        embeddings: a folder that keeps the reference model's vectors for other runs; None keeps none.
        remedy: what to do about a stage that was completed with other settings, in words; {folder} is its folder.
        store: where complete stages are copied to and taken from; None: nowhere.
        command: the command that runs all stages with this config.
    """

    config: Config
    run: RunDirectory
    progress: Progress = field(default_factory=SilentProgress)
    redo: bool = False
    embeddings: Path | None = None
    remedy: str = REDO
    store: StageStore | None = None
    command: str = RUN_COMMAND

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", as_begun(self.config, self.run, redo=self.redo))

    @property
    def vectors(self) -> Path | None:
        """The folder that keeps the base model's vectors from the audit for the evaluation, and for other runs.

        None where the corpus is so large that its vectors lie in shards on the disk, which are not written twice.
        """
        if self.embeddings is not None:
            return self.embeddings
        read = self.run.manifest("documents")
        return None if read is None or read.counts.get("documents", 0) > IN_MEMORY else self.run.vectors_path

    def save_config(self) -> None:
        """Keep the config beside what it made."""
        values = self.config.model_dump(mode="json")
        atomic_write(self.run.config_path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def as_begun(config: Config, run: RunDirectory, *, redo: bool = False) -> Config:
    """The config with the defaults that a run was begun with, where these are other ones by now.

    Args:
        config: what was asked for.
        run: the run, if there is one; its config says what it was begun with.
        redo: whether stages are made again; then today's defaults hold.
    """
    try:
        before = {} if redo else yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return config
    changes = config.as_begun(before) if before and isinstance(before, dict) else {}
    return config.updated(changes) if changes else config


def complete_stage(
    context: RunContext,
    folder: str,
    fingerprint: str,
    work: Callable[[], dict[str, Any]],
    *,
    decides: Callable[[RunContext], str] | None = None,
) -> StageManifest:
    """Do the work of a stage unless it is complete already.

    Args:
        context: the run.
        folder: the folder of the run directory that the stage's manifest lies in.
        fingerprint: over everything that decides the stage's output.
        work: writes the stage's artifact and returns its counts.
        decides: gives the fingerprint for any context, so that an error names no setting that decides nothing here.

    Raises:
        RunMismatchError: the stage is complete, but from other settings or inputs, and redoing was not asked for.
        RunDirectoryError: the store of complete stages cannot be read or written.
    """
    manifest = context.run.manifest(folder)
    if manifest is not None and manifest.fingerprint == fingerprint:
        context.progress.say(f"{folder}: complete since {manifest.finished_at}, kept")
        return _published(context, folder, manifest)
    if manifest is None and context.store is not None and context.store.restore(folder, fingerprint):
        context.progress.say(f"{folder}: taken from {context.store.place}")
        return context.run.require(folder, "multigrain run")
    if manifest is not None and not context.redo:
        raise RunMismatchError(
            f"run directory {context.run.path}: {mismatch(context, folder, manifest, decides)}; "
            f"{context.remedy.format(folder=context.run.path / folder)}"
        )
    context.run.invalidate(folder)
    started = time.monotonic()
    try:
        counts = work()
    except MultigrainError as error:
        context.run.note_failure(folder, str(error))
        raise
    context.save_config()
    manifest = context.run.finish(
        folder, fingerprint, counts, time.monotonic() - started, settings=context.config.model_dump(mode="json")
    )
    return _published(context, folder, manifest)


def _published(context: RunContext, folder: str, manifest: StageManifest) -> StageManifest:
    if context.store is not None:
        context.store.publish(folder)
    return manifest


def mismatch(
    context: RunContext,
    folder: str,
    manifest: StageManifest,
    decides: Callable[[RunContext], str] | None = None,
) -> str:
    """What an error says of a stage that was completed with other settings; see `differences`."""
    return f"stage {folder!r} was completed with other settings{differences(context, manifest, decides)}"


def differences(
    context: RunContext, manifest: StageManifest, decides: Callable[[RunContext], str] | None = None
) -> str:
    """The settings that have changed since a stage was completed, in words for an error message.

    Args:
        context: the run.
        manifest: of the stage.
        decides: the stage's fingerprint for any context: what changes it is named alone, where anything does.
    """
    before, now = _flatten(manifest.settings), _flatten(context.config.model_dump(mode="json"))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if decides is not None:
        changed = [key for key in changed if _counts(context, key, before.get(key), decides)] or changed
    words = "; ".join(f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in changed)
    return without_credentials(f" ({words})") if changed and manifest.settings else " or inputs"


def _counts(context: RunContext, key: str, before: Any, decides: Callable[[RunContext], str]) -> bool:
    """Whether the fingerprint would be another one if a setting were what it was."""
    values = context.config.model_dump(mode="json")
    section = values
    *path, name = key.split(".")
    for part in path:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            return True
    section[name] = before
    try:
        return decides(replace(context, config=Config.model_validate(values))) != decides(context)
    except (ValueError, OSError, MultigrainError):  # alone it may be no valid setting
        return True


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flatten(value, f"{prefix}.{key}".lstrip(".")))
    return flat


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: what the stage is called in code.
        command: the subcommand that runs it.
        module: the module whose `run(context, stage)` does the work, by way of `stage.complete`; what the stage
            requires is complete and current then.
        folder: the folder of the run directory that its manifest lies in; empty for a stage that is always run.
        fingerprint: over everything that decides its output; None for a stage that is always run.
        requires: the stages whose output it reads.
        begun: a file or folder of the run directory that is there once the stage has begun; empty for `folder`.
        shown: the counts that `multigrain status` shows.
        check_settings: raises what can be seen to be wrong in the config before anything is done.
        check_inputs: raises what can be seen to be wrong once the documents are read, before anything is paid for.
    """

    name: str
    command: str
    module: str
    folder: str = ""
    fingerprint: Callable[[RunContext], str] | None = None
    requires: tuple[Stage, ...] = ()
    begun: str = ""
    shown: tuple[str, ...] = ()
    check_settings: Callable[[Config, RunDirectory], None] | None = None
    check_inputs: Callable[[RunContext], None] | None = None

    def folders(self, config: Config | None, run: RunDirectory | None = None) -> tuple[str, ...]:
        """The folders of the run directory whose manifests say that the stage is complete.

        Args:
            config: what was asked for; None where it cannot be read.
            run: a run whose further folders, made for another config, are wanted too.
        """
        return (self.folder,) if self.folder else ()

    def fingerprints(self, context: RunContext) -> dict[str, str]:
        """What decides the content of each folder."""
        return {} if self.fingerprint is None else {self.folder: self.fingerprint(context)}

    def progress(self, run: RunDirectory, folder: str, config: Config | None) -> str | None:
        """How far an unfinished folder has come, in words; None where it has not been begun."""
        return "" if (run.path / (self.begun or self.folder)).exists() else None

    def summary(self, counts: Mapping[str, Any]) -> str:
        """The counts that matter most, in words, whatever version wrote them."""
        return ", ".join(f"{name} {counts[name]}" for name in self.shown if name in counts)

    def run(self, context: RunContext) -> None:
        """Run the stage; it is skipped where it is complete.

        Raises:
            StageOrderError: a stage that it requires is not complete.
            RunMismatchError: the stage, or one that it requires, was completed with other settings.
        """
        self.check_requirements(context)
        import_module(self.module).run(context, self)

    def check_requirements(self, context: RunContext) -> None:
        """See that every stage that this one requires is complete and current; see `require`."""
        for earlier in self.requires:
            earlier.require(context)

    def complete(self, context: RunContext, work: Callable[[], dict[str, Any]]) -> StageManifest:
        """Do the work of a stage with one folder, unless it is complete already; see `complete_stage`."""
        return complete_stage(
            context,
            self.folder,
            self.fingerprints(context)[self.folder],
            work,
            decides=partial(self._fingerprint, self.folder),
        )

    def _fingerprint(self, folder: str, context: RunContext) -> str:
        # Where a folder is named by settings, other ones have none of that name.
        return self.fingerprints(context).get(folder, "")

    def require(self, context: RunContext) -> None:
        """See that the stage is complete, and that it was completed with the settings at hand.

        A stage that requires no other reads what lies outside the run and may be gone by now: it is enough that it
        is complete.

        Raises:
            StageOrderError: it is not complete; the first stage of the way there that is missing is named.
            RunMismatchError: it was completed with other settings.
        """
        command, folders = f"multigrain {self.command}", self.folders(context.config)
        if any(context.run.manifest(folder) is None for folder in folders):
            self.check_requirements(context)
        manifests = {folder: context.run.require(folder, command) for folder in folders}
        current = self.fingerprints(context) if self.requires else {}
        for folder, manifest in manifests.items():
            if self.requires and manifest.fingerprint != current[folder]:
                raise RunMismatchError(
                    f"run directory {context.run.path}: {self._mismatch(context, folder, manifest)}; "
                    f"`{context.command} --redo` runs it and what follows again, or use the config that made it"
                )

    def changed(self, context: RunContext) -> str:
        """Which settings are other ones than those that the stage was completed with; empty where none is."""
        for folder, current in self.fingerprints(context).items():
            manifest = context.run.manifest(folder)
            if manifest is not None and manifest.fingerprint != current:
                return self._mismatch(context, folder, manifest)
        return ""

    def _mismatch(self, context: RunContext, folder: str, manifest: StageManifest) -> str:
        return mismatch(context, folder, manifest, partial(self._fingerprint, folder))
