"""Configs that come with the package."""

from __future__ import annotations

from importlib.resources import files

import yaml

from multigrain.config import Config
from multigrain.config_file import parse_config

__all__ = ["recipe", "recipe_text"]


def recipe(name: str) -> Config:
    """The recipe of this name, e.g. "demo"."""
    return parse_config(yaml.safe_load(recipe_text(name)), origin=f"recipe {name}")


def recipe_text(name: str) -> str:
    """The recipe's YAML, comments and all."""
    return files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
