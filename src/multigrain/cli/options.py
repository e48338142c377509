"""Arguments and options that several subcommands share, and a check that refuses those that would be ignored."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

_CONFIG_HELP = "The YAML config that `multigrain init` writes, or a run's directory."
ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help=_CONFIG_HELP)]
ConfigHereArgument = Annotated[Path, typer.Argument(metavar="[CONFIG]", help=_CONFIG_HELP)]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", "-r", metavar="DIR", help="The run directory. Default: runs/<name of the config file>."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")]
RedoOption = Annotated[
    bool,
    typer.Option("--redo", help="Run complete stages again whose settings have changed, instead of refusing."),
]
MaxCostOption = Annotated[
    float | None,
    typer.Option("--max-cost", metavar="DOLLARS", help="Stop asking before the run costs more than this."),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option("--max-tokens", metavar="N", min=1, help="Stop asking before the run takes more tokens than this."),
]


CONFIG_HERE = Path("config.yaml")
"""The default config: the file that `multigrain init` writes."""


def run_directory(config: Path, chosen: Path | None) -> Path:
    """The chosen run directory, the config where that is a run directory, or the one named after the config."""
    if chosen is not None:
        return chosen
    return config if config.is_dir() else Path("runs") / config.stem


def is_config(path: Path) -> bool:
    """Whether a path is a config file by its name, and not a run's directory."""
    return path.suffix.lower() in (".yaml", ".yml") and not path.is_dir()


def run_of(path: Path) -> Path:
    """The run directory at a path, or the one named after the config file at a path."""
    return run_directory(path, None) if is_config(path) else path


CompleteRunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN | CONFIG", callback=run_of, help="The directory of a complete run, or its config."),
]


CandidateOption = Annotated[
    str | None,
    typer.Option(
        "--candidate",
        metavar="NAME",
        help="A reranker that the run tuned, by its name. Default: the chosen embedder, or the reranker of a run that "
        "tuned one alone.",
    ),
]


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
