"""CONTRIBUTING.md's recipes, as text."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "multigrain"
_RECIPE = re.compile(r"^### Add an? (?P<part>[\w ]+)\n(?P<text>.*?)(?=^##)", re.M | re.S)


def recipes() -> dict[str, str]:
    """The text of each recipe by what it adds; empty where it is still to be written."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.split("## Recipes\n")[1].split("\n## ")[0] + "\n##"
    without_comments = re.sub(r"<!--.*?-->", "", section, flags=re.S)
    return {match["part"]: match["text"].strip() for match in _RECIPE.finditer(without_comments)}


def named_files(recipe: str) -> list[str]:
    """The files that a recipe names, in its order."""
    return re.findall(r"`([\w/.-]+\.(?:py|md|jinja|yaml|toml))`", recipe)
