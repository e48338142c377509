"""A check that refuses options of a command that would be ignored."""

from __future__ import annotations

from collections.abc import Collection

import typer


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
        if name in unfit and was_typed(context, name):
            raise typer.BadParameter(f"{parameter.opts[0]} {reason}")


def was_typed(context: typer.Context, name: str) -> bool:
    """Whether a parameter's value comes from the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
