"""Records about a stage of a run: the manifest of a complete one, the reason of a failed one."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_RECORDED_PACKAGES = ("multigrain", "torch", "transformers", "sentence-transformers", "datasets")


@dataclass(frozen=True)
class StageManifest:
    """The manifest of a complete stage.

    Attributes:
        stage: its name.
        fingerprint: over everything that decides its output: config sections, inputs, format versions.
        counts: the stage's summary, as `--json` prints it.
        seconds: wall-clock seconds of the session that completed it.
        finished_at: ISO 8601, UTC.
        versions: of the packages that matter.
        settings: the whole config that the stage was completed with.
    """

    stage: str
    fingerprint: str
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished_at: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageFailure:
    """The reason why a stage failed when it was last run.

    Attributes:
        stage: its name.
        message: the error, as it was told.
        failed_at: ISO 8601, UTC.
    """

    stage: str
    message: str
    failed_at: str


def installed_versions() -> dict[str, str]:
    """Versions of the installed packages that decide what a stage makes."""
    versions = {}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
