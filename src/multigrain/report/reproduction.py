"""What it takes to make a run again.

A page is passed around, so it shows paths from the folder that holds the run, not from the machine's root.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multigrain.storage.rundir import RunDirectory, StageManifest

_SOURCES = ("documents", "pairs", "tasks")
_PATH_LINE = re.compile(r"^(\s*(?:- )*(?:[\w.-]+:\s+)?)(['\"]?)(/[^'\"\n]*?)\2(\s*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What it takes to make the run again.

    Attributes:
        config: the resolved config as YAML, or None where the run holds none.
        shown_config: the same with paths from the folder that holds `runs/`.
        source: what must lie where the config says: "documents", "pairs" or "tasks"; empty where nothing must.
        source_path: where.
        seed: the config's seed, or None where it names none.
        install: the pip line, for a clone.
        command: the command line.
        run: the run's path for commands, quoted as a shell wants it.
        versions: of the packages that matter.
        stages: the manifests of the complete stages, in the order in which they were completed.
    """

    config: str | None
    shown_config: str | None
    source: str
    source_path: str
    seed: int | None
    install: str
    command: str
    run: str
    versions: dict[str, str]
    stages: tuple[StageManifest, ...]

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all stages."""
        return sum(stage.seconds for stage in self.stages)


def load_reproduction(
    run: RunDirectory, config: str | None, values: Mapping[str, Any], finished: StageManifest
) -> Reproduction:
    """Read what the run's manifests and its config say of how it was made.

    Args:
        run: the run.
        config: its config, fit to be shown.
        values: the same, parsed; empty where it cannot be.
        finished: the evaluation's manifest.
    """
    folder = command_folder(run.path)
    is_local = _section(values, "llm").get("provider", "local") == "local"
    begins_with = values.get("start_from", "documents")
    source = begins_with if begins_with in _SOURCES else ""
    path = _section(values, source).get("path")
    seed = values.get("seed")
    return Reproduction(
        config=config,
        shown_config=None if config is None else with_relative_paths(config, folder),
        source=source if isinstance(path, str) else "",
        source_path=relative_path(path, folder) if isinstance(path, str) else "",
        seed=seed if isinstance(seed, int) else None,
        install='pip install ".[local]"' if is_local else "pip install .",
        command="multigrain run config.yaml",
        run=shlex.quote(relative_path(str(run.path.resolve()), folder)),
        versions=finished.versions,
        stages=tuple(run.manifests()),
    )


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name)
    return section if isinstance(section, Mapping) else {}


def command_folder(run: Path) -> Path:
    """The folder that a run's commands are typed in: the one that holds `runs/`, or else the run."""
    run = run.resolve()
    return run.parents[1] if run.parent.name == "runs" else run.parent


def relative_path(path: str, folder: Path) -> str:
    """An absolute path as it is reached from a folder; anything else, or a path with nothing in common, as it is."""
    if not path.startswith("/") or Path(os.path.commonpath([path, folder])) == Path("/"):
        return path
    return os.path.relpath(path, folder)


def with_relative_paths(config: str, folder: Path) -> str:
    """A YAML text whose absolute paths are written from a folder; all else in it stays, comments included."""

    def rewrite(match: re.Match[str]) -> str:
        head, quote, path, tail = match.groups()
        return f"{head}{quote}{relative_path(path, folder)}{quote}{tail}"

    return _PATH_LINE.sub(rewrite, config)
