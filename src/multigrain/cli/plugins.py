"""`multigrain plugins`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby

import typer

from multigrain.cli.console import print_json
from multigrain.cli.options import JsonOption


def plugins(as_json: JsonOption = False) -> None:
    """List what configs can name: strategies, checks, losses and more, of this package and of others.

    Exits with 1 where a part of another package cannot be used.
    """
    from multigrain.tools.plugins import named_parts

    parts = list(named_parts())
    if as_json:
        print_json({"parts": [asdict(part) for part in parts]})
    else:
        width = max(len(part.name) for part in parts)
        for kind, of_kind in groupby(parts, key=lambda part: part.kind):
            typer.echo(kind)
            for part in of_kind:
                typer.echo(f"  {part.name:{width}}  {part.package}")
                if part.problem is not None:
                    typer.echo(f"  {'':{width}}  → {part.problem}")
    if any(part.problem is not None and part.package != "multigrain" for part in parts):
        raise typer.Exit(1)
