"""A check that refuses options of a command that would be ignored."""

from __future__ import annotations

from collections.abc import Collection

import typer

__all__ = ["require_fitting"]


def require_fitting(context: typer.Context, unfit: Collection[str], reason: str) -> None:
    """Refuse options that would be ignored.

    Args:
        context: of the command.
        unfit: names of the parameters that have no use here.
        reason: what they are for, and what to do; follows the option's name.

    Raises:
        typer.BadParameter: one of them was given.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in unfit and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{parameter.opts[0]} {reason}")
