"""Which model of a run leaves it: the chosen embedder, or a reranker by its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError, RunDirectoryError
from multigrain.storage.rundir import RunDirectory


@dataclass(frozen=True, slots=True)
class RunModel:
    """A model of a run.

    Attributes:
        name: the candidate's; of the chosen embedder, what the run calls it, and empty where it does not say.
        folder: where it lies.
        is_reranker: whether it scores pairs.
    """

    name: str
    folder: Path
    is_reranker: bool


def evaluated_config(run: RunDirectory) -> Config:
    """The config of a run that has been evaluated.

    Raises:
        StageOrderError: it has not been.
        ConfigError: its config cannot be read.
    """
    run.require("results", f"multigrain evaluate {run.config_path} --run {run.path}")
    return load_config(run.path)


def run_models(run: RunDirectory, config: Config) -> list[RunModel]:
    """The models that can leave an evaluated run: the chosen embedder, where it tuned any, then its rerankers.

    In a run of rerankers alone `model/` holds the base, which is nobody's to publish.

    Args:
        run: evaluated.
        config: its own.
    """
    manifest = run.manifest("results")
    chosen = str(manifest.counts.get("chosen", "")) if manifest is not None else ""
    embedder = [RunModel(chosen, run.model_path, False)] if config.training.embedders else []
    return embedder + [RunModel(name, run.candidate_path(name), True) for name in config.training.rerankers]


def run_model(run: RunDirectory, config: Config, name: str | None = None) -> RunModel:
    """One of `run_models`: the one of that name, or the first; of several rerankers alone none is first.

    Args:
        run: evaluated.
        config: its own.
        name: the candidate's; None for the chosen embedder, or for the one reranker of a run without embedders.

    Raises:
        ConfigError: there is none of that name, or one has to be named.
        RunDirectoryError: its folder is gone.
    """
    there = run_models(run, config)
    names = [each.name for each in there]
    if name is None:
        if there[0].is_reranker and len(there) > 1:
            raise ConfigError(
                f"{run.path}: tuned rerankers alone: name one with --candidate: {' or '.join(names)} (its base is not "
                "its model)"
            )
        found = there[0]
    elif name in names:
        found = there[names.index(name)]
    else:
        others = ", ".join(each.name for each in there if each.is_reranker) or "none"
        raise ConfigError(
            f"--candidate {name!r}{did_you_mean(name, names)}: rerankers of {run.path}: {others}; without --candidate "
            "the chosen embedder is taken"
        )
    if not found.folder.is_dir():
        raise RunDirectoryError(f"{found.folder}: no model in it; `multigrain run` of its config trains it again")
    return found
