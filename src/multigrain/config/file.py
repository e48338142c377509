"""Reading a config from a YAML file or plain values; one error lists every problem."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from multigrain.config import Config
from multigrain.config.paths import ConfigFolder
from multigrain.config.problems import expectation, yaml_problem
from multigrain.config.section import Section
from multigrain.display.suggest import did_you_mean, near_path
from multigrain.errors import ConfigError


def load_config(path: Path) -> Config:
    """Read a YAML config file; relative document and set paths are taken from the file's folder.

    Args:
        path: the file, or a run directory: the config that made it, with the defaults of the version that did.

    Raises:
        ConfigError: the file is missing, is not YAML, or has wrong keys or values (all listed at once).
    """
    is_run = path.is_dir()
    if is_run:
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
                f"{path}: no such config file or run{near_path(path)}; `multigrain init` writes a config"
            ) from None
        raise ConfigError(
            f"{path}: no such config file{near_path(path)}; `multigrain init {path}` writes one"
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
    config = parse_config(values, origin=str(path), context=ConfigFolder(path.resolve().parent, _set_names(values)))
    return config.updated(config.as_begun(values)) if is_run else config


def parse_config(values: dict[str, Any], *, origin: str = "config", context: ConfigFolder | None = None) -> Config:
    """Build a config from plain values.

    Args:
        values: sections and their settings.
        origin: what errors name as the source of the values.
        context: the folder that relative paths are taken from; None leaves them as they are.

    Raises:
        ConfigError: with every problem, one after another.
    """
    try:
        return Config.model_validate(values, context=context)
    except ValidationError as error:
        # Pydantic tells each form that a setting may take apart, under a name that is no key: they are one problem.
        places: dict[tuple[Any, ...], list[Any]] = {}
        for problem in error.errors():
            places.setdefault(_place(problem, values), []).append(problem)
        raise ConfigError(f"{origin}: " + "; ".join(itertools.starmap(_describe, places.items()))) from None


def read_yaml(text: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML, or a mapping has a key twice.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} stands here again, after line {lines[key.value]}: put both together",
                    problem_mark=key.start_mark,
                )
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def _set_names(values: dict[str, Any]) -> frozenset[str]:
    """What a config calls its evaluation sets; values of the wrong kind are told of when they are validated."""
    evaluation = values.get("evaluation")
    sets = evaluation.get("sets") if isinstance(evaluation, dict) else None
    names = (item.get("name") for item in sets if isinstance(item, dict)) if isinstance(sets, list) else ()
    return frozenset({"evaluation", *(name for name in names if isinstance(name, str))})


def _place(problem: Any, values: Any) -> tuple[Any, ...]:
    """The keys that lead to the problem, as the user wrote them, and the missing key where one is missing."""
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
        return f"{key}: unknown key{did_you_mean(str(place[-1]), _known_keys(place[:-1]))}"
    value = repr(problem["input"])
    is_shown = problem["type"] != "missing" and not isinstance(problem["input"], dict) and len(value) <= 60
    shown = f", got {value}" if is_shown else ""
    return f"{key}: {expectation(problems)}{shown}"


def _known_keys(place: Sequence[Any]) -> list[str]:
    """The keys of the sections that may be at a place of the config."""
    types: list[Any] = [Config]
    for key in place:
        types = [inner for annotation in types for inner in _types_within(annotation, key)]
    return [name for annotation in types if _is_section(annotation) for name in annotation.model_fields]


def _types_within(annotation: Any, key: Any) -> Iterator[Any]:
    """The types that the value at a key of a section, a mapping or a list may have."""
    if _is_section(annotation):
        if key in annotation.model_fields:
            yield from _forms(annotation.model_fields[key].annotation)
    elif arguments := get_args(annotation):
        yield from _forms(arguments[-1] if get_origin(annotation) is dict else arguments[0])


def _forms(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _forms(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for form in get_args(annotation):
            yield from _forms(form)
    else:
        yield annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
