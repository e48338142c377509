"""What it takes to make a run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multigrain.report.paths import home_of, near, with_near_paths
from multigrain.storage.rundir import RunDirectory, StageManifest

_SOURCES = ("documents", "pairs", "tasks")


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
    home = home_of(run.path)
    is_local = _section(values, "llm").get("provider", "local") == "local"
    begins_with = values.get("start_from", "documents")
    source = begins_with if begins_with in _SOURCES else ""
    place = _section(values, source).get("path")
    seed = values.get("seed")
    return Reproduction(
        config=config,
        shown_config=None if config is None else with_near_paths(config, home),
        source=source if isinstance(place, str) else "",
        source_path=near(place, home) if isinstance(place, str) else "",
        seed=seed if isinstance(seed, int) else None,
        install='pip install ".[local]"' if is_local else "pip install .",
        command="multigrain run config.yaml",
        run=shlex.quote(near(str(run.path.resolve()), home)),
        versions=finished.versions,
        stages=tuple(run.manifests()),
    )


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
