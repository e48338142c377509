"""Configs that come with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import yaml

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError

__all__ = ["recipe", "recipe_names", "recipe_needs", "recipe_summary", "recipe_text"]

_HARDWARE: Final = {
    "cluster": "a Ray cluster with GPUs",
    "fsdp": "eight GPUs",
    "paper-mistral-7b": "a GPU of 80 GB",
    "qwen3-0.6b": "a GPU of 24 GB",
    "two-gpus": "two GPUs",
}


def recipe(name: str) -> Config:
    """The recipe of this name, e.g. "demo".

    Raises:
        ConfigError: there is no such recipe.
    """
    return parse_config(yaml.safe_load(recipe_text(name)), origin=f"recipe {name}")


def recipe_names() -> list[str]:
    """The names of all recipes, sorted. What goes with one for another program (`*.serve.yaml`) is none itself."""
    names = (each.name.removesuffix(".yaml") for each in files(__package__).iterdir() if each.name.endswith(".yaml"))
    return sorted(name for name in names if not name.endswith(".serve"))


def recipe_summary(name: str) -> str:
    """What a recipe is for: the first line of its comments."""
    return recipe_text(name).splitlines()[0].removeprefix("#").strip()


def recipe_needs(name: str) -> str:
    """What a recipe cannot do without, in a few words: an endpoint, GPUs, a cluster; empty for nothing."""
    own = yaml.safe_load(recipe_text(name))
    endpoint = own.get("llm", {}).get("provider") == "openai"
    return ", ".join([*(["an endpoint"] if endpoint else []), *([_HARDWARE[name]] if name in _HARDWARE else [])])


def recipe_text(name: str) -> str:
    """The YAML of a recipe, or of a file that goes with one, comments and all.

    Raises:
        ConfigError: there is no such recipe.
    """
    names, file = recipe_names(), files(__package__).joinpath(f"{name}.yaml")
    if name not in names and not (name.endswith(".serve") and file.is_file()):
        raise ConfigError(f"no recipe {name!r}{did_you_mean(name, names)}: there are {', '.join(names)}")
    return file.read_text(encoding="utf-8")
