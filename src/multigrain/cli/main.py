"""The `multigrain` command: its welcome, its subcommands, and the exit codes and messages of errors."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.markup import escape

import multigrain
from multigrain.cli.console import console
from multigrain.display.text import one_line
from multigrain.errors import MultigrainError
from multigrain.stages.table import STAGES

_DEBUG = "--debug"
_INTERRUPTED: Final = 130
_WELCOME_COLUMN: Final = 38
_GOES_ON: Final = "interrupted; nothing that was finished is lost, the same command continues from there"


_PANELS: Final[dict[str, tuple[str, ...]]] = {
    "Start": ("init", "bases", "plan", "run", "demo", "status", "doctor", "plugins"),
    "One stage": tuple(dict.fromkeys(stage.command for stage in STAGES.values())),
    "Proof": ("compare", "diagnose", "label", "ablate", "anchors"),
    "The model": ("export", "verify", "card", "push"),
    "Data": ("mine", "dataset", "writer", "journal", "batch"),
}
"""Every subcommand, under the heading that help shows it by. Its module is named like it, and holds a function of that
name or, where it has subcommands of its own, an `app`."""

app = typer.Typer(
    name="multigrain",
    help="Teach a text-embedding model your domain, coarse to fine.\n\n"
    "Documents go in; a language model writes queries and graded negatives; they are measured and filtered; a "
    "sentence-transformers model is trained on them from easy to hard; a report says what that gained.",
    epilog="Start with `multigrain init` and `multigrain run config.yaml`; without documents, with `multigrain demo`. "
    "Exit codes: 0 done, 2 config or usage, 3 documents, 4 missing extra, 5 language model, 6 run directory, "
    "7 stage order, 8 embedding model, 9 evaluation, 10 cluster, 11 pushing to the hub, 12 a server gives other "
    "vectors, 130 interrupted.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked_for: bool) -> None:
    if asked_for:
        typer.echo(f"multigrain {multigrain.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show tracebacks.")] = False,
) -> None:
    del version, debug  # --version has done its work by now; main() looks for --debug itself
    if context.invoked_subcommand is None:
        typer.echo(welcome(Path.cwd()))


def welcome(folder: Path) -> str:
    """A few lines of introduction and the next commands.

    Args:
        folder: where they are; a config or a run there decides which command comes next.
    """
    lines = [
        f"multigrain {multigrain.__version__}: teach a text-embedding model your domain, coarse to fine.",
        "",
        *_command_lines(
            ("multigrain init", "asks what it must know, writes config.yaml"),
            ("multigrain run config.yaml", "documents → queries and negatives → model/ and report.html"),
            ("multigrain status", "where your runs stand"),
        ),
        "",
        *_command_lines(
            ("multigrain demo", "no documents yet? tunes a small model on docstrings, and proves it"),
            ("multigrain doctor", "what this machine lacks, and what to do about it"),
            ("multigrain --help", "every command"),
        ),
    ]
    if here := _next_command(folder):
        lines += ["", here]
    return "\n".join(lines)


def _command_lines(*pairs: tuple[str, str]) -> list[str]:
    return [f"  {command:<{_WELCOME_COLUMN}}{about}" for command, about in pairs]


def _next_command(folder: Path) -> str:
    run = folder / "runs" / "config"
    if (run / "report.html").is_file():
        return f"runs/config is complete: open {run.relative_to(folder) / 'report.html'}"
    if (folder / "config.yaml").is_file():
        about = "runs/config is begun, and the same command continues" if run.is_dir() else "it has not been run yet"
        return f"config.yaml is here; {about}: multigrain run config.yaml"
    return ""


for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _module = import_module(f"multigrain.cli.{_command}")
        if hasattr(_module, "app"):
            app.add_typer(_module.app, name=_command, rich_help_panel=_panel)
        else:
            app.command(_command, rich_help_panel=_panel)(getattr(_module, _command))


def main() -> None:
    """Run the command line; an error that a user can mend becomes one line and its own exit code."""
    debug = _DEBUG in sys.argv
    if debug:
        sys.argv.remove(_DEBUG)  # so that it may stand anywhere
        app()
        return
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer's word for Ctrl-C, when it was nowhere caught
            raise KeyboardInterrupt
    except MultigrainError as error:
        _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt) as stopped:
        _end_interrupted(str(stopped) or _GOES_ON)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}; what was finished is kept, run again when fixed", 1)
    except Exception as error:
        # Usage errors are typer's: they know how to show themselves, and how to exit.
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    from multigrain.training.processes import is_main_process, process_rank

    place = "" if is_main_process() else f" process {process_rank()}"
    console().print(f"[bold red]error{place}:[/] {escape(one_line(message))}", highlight=False, soft_wrap=True)
    sys.exit(code)


def _end_interrupted(message: str) -> NoReturn:
    """Exit after Ctrl-C, with a message that is not marked as an error."""
    from multigrain.training.processes import is_main_process

    # Of processes that train together, each fails for itself; that they were interrupted needs to be said once.
    if is_main_process():
        if console().is_terminal:
            typer.echo(err=True)  # the terminal shows ^C, or an unanswered question, on the line before
        console().print(escape(one_line(message)), highlight=False, soft_wrap=True)
    sys.exit(_INTERRUPTED)
