"""`multigrain init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from multigrain.cli.console import console
from multigrain.config_template import config_template
from multigrain.errors import ConfigError
from multigrain.rundir import atomic_write

__all__ = ["init", "register"]


def init(
    path: Annotated[Path, typer.Argument(metavar="[CONFIG]", help="The file to write.")] = Path("config.yaml"),
    documents: Annotated[
        str, typer.Option("--documents", "-d", help="Your documents: a folder, or a .jsonl, .csv or .parquet file.")
    ] = "documents",
    provider: Annotated[
        Literal["local", "openai"], typer.Option(help="local: llama.cpp in this process. openai: any /v1 endpoint.")
    ] = "local",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented config to start from."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already: choose another name, or --force to overwrite it")
    atomic_write(path, config_template(documents=documents, provider=provider))
    console().print(f"wrote {path}; next: multigrain run {path}", highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(init)
