"""`multigrain init`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from multigrain.cli.console import console
from multigrain.config_template import config_template
from multigrain.errors import ConfigError
from multigrain.recipes import recipe_names, recipe_summary, recipe_text
from multigrain.rundir import atomic_write

__all__ = ["init", "register"]


def init(
    path: Annotated[Path, typer.Argument(metavar="[CONFIG]", help="The file to write.")] = Path("config.yaml"),
    documents: Annotated[
        str | None,
        typer.Option("--documents", "-d", help="Your documents: a folder, or a .jsonl, .csv or .parquet file."),
    ] = None,
    provider: Annotated[
        Literal["local", "openai"], typer.Option(help="local: llama.cpp in this process. openai: any /v1 endpoint.")
    ] = "local",
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start from a recipe; --recipe list shows what there is.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented config to start from: every setting explained, or a recipe for a known case."""
    if recipe == "list":
        for name in recipe_names():
            typer.echo(f"{name:<18}{recipe_summary(name)}")
        return
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already: choose another name, or --force to overwrite it")
    if recipe is None:
        text = config_template(documents=documents or "documents", provider=provider)
    else:
        text = recipe_text(recipe)
        if documents is not None:
            text = _with_documents(text, documents, recipe)
    atomic_write(path, text)
    console().print(f"wrote {path}; next: multigrain run {path}", highlight=False, soft_wrap=True)


def _with_documents(text: str, documents: str, recipe: str) -> str:
    """A recipe's text with other documents; every recipe but the demo's names them in one line."""
    found, count = re.subn(r"(?m)^  path: documents\b", lambda _: f"  path: {json.dumps(documents)}", text, count=1)
    if not count:
        raise ConfigError(f"recipe {recipe!r} brings its own documents: leave --documents out")
    return found


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(init)
