"""The matrix file: one config, the settings to vary, and the seeds. Expanded into arms, each a checked config.

config: config.yaml            # everything that the arms share
vary:
  source: [mined, hybrid]      # audit.negatives
  schedule: [coarse-to-fine, random, in-batch]
  pooling: [mean, ata]
  training.temperature: [0.02, 0.05]
seeds: [1, 2, 3]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from multigrain.config import Config, TrainingConfig, fingerprint
from multigrain.config.candidates import RERANKER_SCHEDULE
from multigrain.config.file import load_config, parse_config, read_yaml
from multigrain.config.paths import SERVED_PREFIX, ConfigFolder, ModelReference
from multigrain.config.training import AUTOMATIC_RATES
from multigrain.errors import ConfigError, MultigrainError
from multigrain.evaluation.results import BASE
from multigrain.stages.fingerprints import (
    base_settings,
    documents_fingerprint,
    planned_dataset_fingerprint,
    planned_synthesis_fingerprint,
)
from multigrain.storage.rundir import RunDirectory
from multigrain.training.losses.registry import check_losses

CANDIDATE: Final = "arm"
"""The name of the one candidate in an arm's config."""
OF_BASE: Final = (BASE, "hybrid")
"""The first stages that ask the base model."""

_SHORT_NAMES: Final = {
    "source": "audit.negatives",
    "strategy": "synthesis.strategy",
    **{name: f"training.{name}" for name in TrainingConfig.model_fields if name != "candidates"},
}
# Arms that were trained before these could be chosen keep their key where they say nothing.
_ADDED_LATER: Final = ("attn_implementation", "append_eos")
# What decides the documents, the test queries or how they are scored must be the same for all, or nothing compares.
_VARIABLE: Final = ("llm.", "synthesis.", "audit.", "training.")


class SortedAgain(BaseModel):
    """What the arms of an ablation of rerankers sort again."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    first_stage: ModelReference = BASE
    """What finds documents: base (the reference arm's base model), bm25, hybrid (BM25 and that base), or an embedding
    model: a folder, a hub id or package:NAME."""

    depth: int = Field(default=30, ge=1, le=1000)
    """How many documents of each query the arms sort again."""

    @field_validator("first_stage")
    @classmethod
    def _runs_here(cls, reference: str) -> str:
        if reference.startswith(SERVED_PREFIX):
            raise ValueError(f"{reference} is behind an endpoint; name base, bm25, hybrid or a model that runs here")
        return reference

    @property
    def words(self) -> str:
        """What the arms are, in words."""
        return f"{self.first_stage}, whose first {self.depth} documents the arm's reranker sorts again"

    def decided_by(self, config: Config) -> list[Any]:
        """What decides what is found, besides the sets.

        Args:
            config: of the reference arm.
        """
        base = base_settings(config.training) if self.first_stage in OF_BASE else None
        return [self.model_dump(mode="json"), base]


class MatrixFile(BaseModel):
    """What a matrix file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    config: Path
    """The config that all arms share; relative to this file."""

    vary: dict[str, list[Any]] = Field(min_length=1)
    """Setting to values; arms are all combinations. A setting is a config key such as training.schedule, or short
    source (audit.negatives), strategy, or any key of training."""

    seeds: list[int] = Field(default=[13], min_length=1)
    """Each arm is trained once with each. They seed training alone: documents and written rows are shared."""

    reference: dict[str, Any] = Field(default_factory=dict)
    """The arm that the others are compared with, by some of its values. Left out: the first of each."""

    skip: list[dict[str, Any]] = Field(default_factory=list)
    """Combinations to leave out, each by some of its values."""

    budget_seconds: float | None = Field(default=None, gt=0)
    """Start no arm that would take the whole longer than this (null: no limit)."""

    budget_cost: float | None = Field(default=None, gt=0)
    """Have nothing more written that would take the whole above this many US dollars, by estimate (null: no limit)."""

    rerank: SortedAgain = Field(default_factory=SortedAgain)
    """Of rerankers (training.kind: reranker) what the arms sort again, e.g. {first_stage: bm25, depth: 50}."""

    keep_models: bool = False
    """Keep every trained model, and not only its results."""


@dataclass(frozen=True)
class Arm:
    """One combination.

    Attributes:
        values: the varied settings and what they are here.
        config: the whole config of the arm, with one candidate.
    """

    values: Mapping[str, Any]
    config: Config

    @property
    def name(self) -> str:
        """What people read, e.g. "schedule=random, pooling=mean"."""
        return ", ".join(f"{axis}={shown(value)}" for axis, value in self.values.items())

    @property
    def key(self) -> str:
        """What folders are named: the same for the same training, whatever the matrix varies; data have theirs."""
        return fingerprint(self.training_settings)[:12]

    @property
    def training_settings(self) -> dict[str, Any]:
        """What decides how the arm is trained, as plain values."""
        training = self.config.training.resolve(CANDIDATE)
        values = training.fingerprinted(exclude={"candidates", "checkpoint_every"})
        return {key: value for key, value in values.items() if value is not None or key not in _ADDED_LATER}


@dataclass(frozen=True)
class Matrix:
    """An expanded matrix.

    Attributes:
        axes: the varied settings, in order.
        arms: all combinations that are not skipped.
        reference: the arm that the others are compared with.
        file: what the matrix file says: the seeds, the budgets, and whether models are kept.
    """

    axes: tuple[str, ...]
    arms: tuple[Arm, ...]
    reference: Arm
    file: MatrixFile

    @property
    def rerank(self) -> SortedAgain | None:
        """What the arms sort again; None where they are embedders."""
        return self.file.rerank if self.reference.config.training.kind == "reranker" else None


def load_matrix(path: Path) -> Matrix:
    """Read and expand a matrix file.

    Raises:
        ConfigError: the file, its config or a combination is wrong; all wrong combinations are listed at once.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such matrix file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    try:
        file = MatrixFile.model_validate(values, context=ConfigFolder(path.resolve().parent))
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, detail['loc'])) or '(top level)'}: {detail['msg']}" for detail in error.errors()
        )
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None
    config = file.config if file.config.is_absolute() else path.resolve().parent / file.config
    return expand(file, load_config(config), origin=str(path))


def expand(file: MatrixFile, shared: Config, *, origin: str) -> Matrix:
    """Make every combination's config.

    Args:
        file: what the matrix file says.
        shared: the config that it names.
        origin: what errors name as the place of the matrix.

    Raises:
        ConfigError: a setting that must not vary, a wrong combination, one twice, or no reference.
    """
    for axis, listed in file.vary.items():
        if not _full_name(axis).startswith(_VARIABLE):
            raise ConfigError(
                f"{origin}: {axis!r} must not vary, or the arms could not be compared; settings of "
                f"{', '.join(section.rstrip('.') for section in _VARIABLE)} may"
            )
        if not listed:
            raise ConfigError(f"{origin}: vary.{axis} lists no values")
    arms, problems = [], []
    for choices in itertools.product(*file.vary.values()):
        values = dict(zip(file.vary, choices, strict=True))
        if any(_matches(values, skipped) for skipped in file.skip):
            continue
        try:
            arms.append(Arm(values, _arm_config(shared, values)))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(f"{origin}: " + "; ".join(dict.fromkeys(problems)))
    if len({fingerprint(dict(arm.values)) for arm in arms}) < len(arms) or len(set(file.seeds)) < len(file.seeds):
        raise ConfigError(f"{origin}: a value is listed twice under vary or seeds")
    reference = next((arm for arm in arms if _matches(arm.values, file.reference)), None)
    if reference is None:
        raise ConfigError(f"{origin}: no arm is left that `reference` describes; see vary and skip")
    kinds = {arm.config.training.kind for arm in arms}
    if len(kinds) > 1:
        raise ConfigError(
            f"{origin}: training.kind must not vary: embedders search all documents, and rerankers sort again what "
            "was found, so that their scores do not compare"
        )
    if kinds == {"embedder"} and "rerank" in file.model_fields_set:
        raise ConfigError(
            f"{origin}: rerank is for arms that are rerankers; set training.kind: reranker in the config"
        )
    return Matrix(tuple(file.vary), tuple(arms), reference, file)


def shown(value: Any) -> str:
    """A setting's value as tables show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _full_name(axis: str) -> str:
    return axis if "." in axis else _SHORT_NAMES.get(axis, axis)


def _matches(values: Mapping[str, Any], description: Mapping[str, Any]) -> bool:
    return all(axis in values and values[axis] == value for axis, value in description.items())


def _arm_config(shared: Config, values: Mapping[str, Any]) -> Config:
    settings = shared.model_dump(mode="json")
    # Arms are told apart by what they are given, so nothing is chosen for them unless config or matrix say so.
    unchosen = {**shared.training.changed, "early_stopping": None}
    given = {_full_name(axis): value for axis, value in values.items()}
    if given.get("training.kind", shared.training.kind) == "reranker":
        unchosen |= {"learning_rate": AUTOMATIC_RATES["reranker"][0], "schedule": RERANKER_SCHEDULE}
    settings["training"] |= {
        key: value for key, value in unchosen.items() if key not in shared.training.model_fields_set
    }
    settings["training"]["candidates"] = {CANDIDATE: {}}
    for axis, value in values.items():
        *sections, key = _full_name(axis).split(".")
        place = settings
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}  # left out, or no section at all: checking the whole says so
            place = place[section]
        place[key] = value
    origin = ", ".join(f"{axis}={shown(value)}" for axis, value in values.items())
    config = parse_config(settings, origin=origin)
    if config.training.base_model.startswith(SERVED_PREFIX):
        raise ConfigError(
            f"{origin}: arms are tuned from a base that runs here, and training.base_model is "
            f"{config.training.base_model}; compare adapters as candidates of a run"
        )
    try:
        check_losses(config.training)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    return config


_KEY_LENGTH: Final = 16


class ArmFolders(NamedTuple):
    """The folders of an arm: of its documents and written rows, and of its graded rows. Arms alike have the same."""

    writing: Path
    data: Path


def shared_folders(arms: Sequence[Arm], out: Path) -> dict[str, ArmFolders]:
    """The folders of arms, by their names; files that change in place lead to other folders.

    A folder is named for the fingerprint of the stage that fills it. Folders of version 0.1.0 have other names: they
    are recognised by the fingerprints in their manifests, and used on.

    Args:
        arms: of one matrix.
        out: the ablation's folder.
    """
    existing = {fingerprint: path for folder in ("writing", "data") for fingerprint, path in _existing(out / folder)}
    folders, documents = {}, ""
    for arm in arms:
        if not documents or arm.config.start_from == "tasks":  # documents and pairs are the same for all arms
            documents = documents_fingerprint(arm.config)
        written = planned_synthesis_fingerprint(arm.config, documents)
        graded = planned_dataset_fingerprint(arm.config, written)
        folders[arm.name] = ArmFolders(
            existing.get(written, out / "writing" / written[:_KEY_LENGTH]),
            existing.get(graded, out / "data" / graded[:_KEY_LENGTH]),
        )
    return folders


def _existing(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders by the fingerprint of what they hold; where writing was interrupted, of what would be written."""
    for path in sorted(folder.glob("*")):
        run = RunDirectory(path)
        documents = run.manifest("documents")
        if (filled := run.manifest("dataset" if folder.name == "data" else "synthesis")) is not None:
            yield filled.fingerprint, path
        elif documents is not None and folder.name == "writing":
            try:
                config = Config.model_validate(documents.settings)
                fingerprint = planned_synthesis_fingerprint(config, documents.fingerprint)
            except (ValidationError, MultigrainError):  # of another version, or a file of it is gone
                continue
            yield fingerprint, path
