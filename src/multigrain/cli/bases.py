"""`multigrain bases`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import JsonOption, RunOption, run_directory
from multigrain.config.file import load_config


def bases(
    config: Annotated[Path, typer.Argument(help="A run's config.")],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Candidates: hub ids, folders, package:NAME; else a short list."),
    ] = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare bases, untuned, on the config's validation queries, and say which to tune; before anything is paid for.

    The documents are read; no language model is asked. A candidate that can't be had is named and skipped. Vectors are
    kept in the run directory: interrupted, the same command continues.
    """
    settings = load_config(config)
    quieten_libraries()
    from multigrain.tools.bases import compare_bases

    comparison = compare_bases(settings, run_directory(config, run), models or [], progress=terminal_progress())
    if as_json:
        print_json(comparison.plain())
    else:
        for line in comparison.lines():
            typer.echo(line)
