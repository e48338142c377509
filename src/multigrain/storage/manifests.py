"""What a stage of a run leaves behind about itself: that it is complete, or why it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["StageFailure", "StageManifest", "installed_versions"]

_RECORDED_PACKAGES = ("multigrain", "torch", "transformers", "sentence-transformers", "datasets")


@dataclass(frozen=True)
class StageManifest:
    """What a complete stage left behind.

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
    """Why a stage came to nothing when it was last tried.

    Attributes:
        stage: its name.
        message: the error, as it was told.
        failed_at: ISO 8601, UTC.
    """

    stage: str
    message: str
    failed_at: str


def installed_versions() -> dict[str, str]:
    """Of the packages that decide what a stage makes, as far as they are installed."""
    found = {}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
