"""Reading a config: from a YAML file or plain values, with every problem told at once."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from multigrain.config import (
    AuditConfig,
    CandidateConfig,
    Config,
    EndpointConfig,
    EvaluationSetConfig,
    LLMConfig,
    LoraConfig,
    MixSourceConfig,
    PhaseConfig,
    PriceConfig,
    TrainingConfig,
)
from multigrain.config.bases import STATIC_PREFIX
from multigrain.config.location import anchored, near_name
from multigrain.config.problems import expectation, yaml_problem
from multigrain.config.yaml_loader import read_yaml
from multigrain.errors import ConfigError

__all__ = ["load_config", "parse_config"]

_PATHS: Final = ("./", "../", "~")


def load_config(path: Path) -> Config:
    """Read a YAML config file; relative document and set paths are taken from the file's folder.

    Args:
        path: the file, or a run directory: the config that made it.

    Raises:
        ConfigError: the file is missing, is not YAML, or has wrong keys or values (all listed at once).
    """
    if path.is_dir():
        if not (path / "config.yaml").is_file():
            raise ConfigError(
                f"{path}: a folder, and no run: if your documents are in it, `multigrain init --documents {path}` "
                "writes a config for them"
            )
        path = path / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise ConfigError(
                f"{path}: no such config file or run{near_name(path)}; `multigrain init` writes a config"
            ) from None
        raise ConfigError(
            f"{path}: no such config file{near_name(path)}; `multigrain init {path}` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {yaml_problem(error, text)}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    config = parse_config(values, origin=str(path))
    return _anchor_paths(config, path.resolve().parent)


def parse_config(values: dict[str, Any], *, origin: str = "config") -> Config:
    """Build a config from plain values.

    Args:
        values: sections and their settings.
        origin: what errors name as the place the values came from.

    Raises:
        ConfigError: with every problem, one after another.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        # Pydantic tells each form that a setting may take apart, under a name that is no key: they are one problem.
        places: dict[tuple[Any, ...], list[Any]] = {}
        for problem in error.errors():
            places.setdefault(_place(problem, values), []).append(problem)
        raise ConfigError(f"{origin}: " + "; ".join(itertools.starmap(_describe, places.items()))) from None


def _place(problem: Any, values: Any) -> tuple[Any, ...]:
    """Where the problem is, in keys that the user wrote; and the key that is missing, where one is."""
    place: list[Any] = []
    for part in problem["loc"]:
        keys = values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
        if part not in keys:
            return tuple(place) if problem["type"] != "missing" else (*place, part)
        place.append(part)
        values = values[part]
    return tuple(place)


def _describe(place: tuple[Any, ...], problems: list[Any]) -> str:
    key, problem = ".".join(str(part) for part in place) or "(top level)", problems[0]
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(problem["loc"][-1]), _known_keys(problem["loc"][:-1]), n=1)
        return f"{key}: unknown key" + (f" (did you mean {nearest[0]!r}?)" if nearest else "")
    given = repr(problem["input"])
    telling = problem["type"] != "missing" and not isinstance(problem["input"], dict) and len(given) <= 60
    shown = f", got {given}" if telling else ""
    return f"{key}: {expectation(problems)}{shown}"


_ITEM_SECTIONS = {
    "candidates": CandidateConfig,
    "curriculum": PhaseConfig,
    "lora": LoraConfig,
    "mix": MixSourceConfig,
    "more_endpoints": EndpointConfig,
    "prices": PriceConfig,
    "sets": EvaluationSetConfig,
}


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    section: Any = Config
    for part in location:
        if part in _ITEM_SECTIONS:
            section = _ITEM_SECTIONS[part]
        elif isinstance(part, str) and part in getattr(section, "model_fields", {}):
            section = section.model_fields[part].annotation
    return list(getattr(section, "model_fields", {}))


def _anchor_paths(config: Config, folder: Path) -> Config:
    documents = config.documents
    if documents.path is not None:
        documents = documents.model_copy(update={"path": anchored(documents.path, folder)})
    sets = [_anchor_set(each, folder) for each in config.evaluation.sets]
    judging = config.evaluation.llm and _anchor_llm(config.evaluation.llm, folder)
    evaluation = config.evaluation.model_copy(update={"sets": sets, "llm": judging})
    synthesis = config.synthesis.model_copy(
        update={"few_shot_model": _anchored_model(config.synthesis.few_shot_model, folder)}
    )
    if synthesis.templates is not None:
        synthesis = synthesis.model_copy(update={"templates": folder / synthesis.templates.expanduser()})
    if synthesis.few_shot_path is not None:
        synthesis = synthesis.model_copy(update={"few_shot_path": folder / synthesis.few_shot_path.expanduser()})
    changed: dict[str, Any] = {
        "documents": documents,
        "llm": _anchor_llm(config.llm, folder),
        "synthesis": synthesis,
        "audit": _anchor_audit(config, folder),
        "training": _anchor_training(config.training, folder),
        "evaluation": evaluation,
    }
    if config.tasks.path is not None:
        changed["tasks"] = config.tasks.model_copy(update={"path": anchored(config.tasks.path, folder)})
    if config.pairs.path is not None:
        changed["pairs"] = config.pairs.model_copy(update={"path": anchored(config.pairs.path, folder)})
    return config.model_copy(update=changed)


def _anchor_training(training: TrainingConfig, folder: Path) -> TrainingConfig:
    candidates = {
        name: each.model_copy(update={"loss_options": _anchored_guide(each.loss_options, folder)})
        for name, each in training.candidates.items()
    }
    return training.model_copy(
        update={
            "base_model": _anchored_model(training.base_model, folder),
            "loss_options": _anchored_guide(training.loss_options, folder),
            "mix": [
                each.model_copy(update={"path": _anchored_file_or_name(each.path, folder)}) for each in training.mix
            ],
            "candidates": candidates,
        }
    )


def _anchor_audit(config: Config, folder: Path) -> AuditConfig:
    audit = config.audit
    known = {"evaluation", *(each.name for each in config.evaluation.sets)}
    names = [name if name in known else _anchored_file_or_name(name, folder) for name in audit.decontamination.sets]
    other = audit.cross_encoder
    return audit.model_copy(
        update={
            "reference_model": _anchored_model(audit.reference_model, folder),
            "decontamination": audit.decontamination.model_copy(update={"sets": names}),
            "cross_encoder": other and other.model_copy(update={"model": _anchored_model(other.model, folder)}),
        }
    )


def _anchor_llm(llm: LLMConfig, folder: Path) -> LLMConfig:
    return llm.model_copy(update={"model": _anchored_model(llm.model, folder)}) if llm.provider == "local" else llm


def _anchored_model(reference: str, folder: Path) -> str:
    """A model's folder or file beside the config, where the reference is plainly a path; `a/b` may be a hub id."""
    if reference.startswith(STATIC_PREFIX):
        return STATIC_PREFIX + _anchored_model(reference.removeprefix(STATIC_PREFIX), folder)
    return str(folder / Path(reference).expanduser()) if reference.startswith(_PATHS) else reference


def _anchored_guide(options: dict[str, Any] | None, folder: Path) -> dict[str, Any] | None:
    guide = (options or {}).get("guide")
    return {**(options or {}), "guide": _anchored_model(guide, folder)} if isinstance(guide, str) else options


def _anchored_file_or_name(given: str, folder: Path) -> str:
    """A file beside the config, where there is one or it is plainly a path; else a hub id, or a set's name."""
    path = folder / Path(given).expanduser()
    return str(path) if given.startswith(_PATHS) or path.exists() else given


def _anchor_set(config: EvaluationSetConfig, folder: Path) -> EvaluationSetConfig:
    places = {name: getattr(config, name) for name in ("path", "queries", "documents", "qrels")}
    moved = {
        name: str(folder / Path(place).expanduser())
        for name, place in places.items()
        if place is not None and not place.startswith(("package:", "mteb:"))
    }
    return config.model_copy(update=moved)
