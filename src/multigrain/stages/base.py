"""What a stage is: one object that says how it is named, run, recognised as complete and summed up.

The stages themselves stand in `multigrain.stages.table`; what each does is in a module of its own, loaded when it is
its turn, because those load torch and much else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from multigrain.config import Config
from multigrain.errors import RunMismatchError
from multigrain.stages.context import RunContext, complete_stage, differences
from multigrain.storage.rundir import RunDirectory, StageManifest


class StageModule(Protocol):
    """The module of a stage."""

    def run(self, context: RunContext, stage: Stage) -> None:
        """Do the stage's work, by way of `stage.complete`; what the stage requires is complete and current."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: what the stage is called in code.
        command: the subcommand that runs it.
        module: the module with its `run`; see `StageModule`.
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
        cast("StageModule", import_module(self.module)).run(context, self)

    def check_requirements(self, context: RunContext) -> None:
        """See that every stage that this one requires is complete and current; see `require`."""
        for earlier in self.requires:
            earlier.require(context)

    def complete(self, context: RunContext, work: Callable[[], dict[str, Any]]) -> StageManifest:
        """Do the work of a stage with one folder, unless it is complete already; see `complete_stage`."""
        return complete_stage(context, self.folder, self.fingerprints(context)[self.folder], work)

    def require(self, context: RunContext) -> None:
        """See that the stage is complete, and that it was completed with the settings at hand.

        A stage that requires no other reads what lies outside the run and may be gone by now: it is enough that it
        is complete.

        Raises:
            StageOrderError: it is not complete.
            RunMismatchError: it was completed with other settings.
        """
        command = f"multigrain {self.command}"
        manifests = {folder: context.run.require(folder, command) for folder in self.folders(context.config)}
        current = self.fingerprints(context) if self.requires else {}
        for folder, manifest in manifests.items():
            if self.requires and manifest.fingerprint != current[folder]:
                raise RunMismatchError(
                    f"run directory {context.run.path}: stage {folder!r} was completed with other settings"
                    f"{differences(context, manifest)}; run `{command} --redo` first, or use the config that made it"
                )
