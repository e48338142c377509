"""`multigrain init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from multigrain.cli.console import console, quieten_libraries
from multigrain.cli.options import run_directory
from multigrain.cli.plan import short_lines
from multigrain.cli.questions import ask_missing, somebody_is_there
from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.config.queries import USER_QUERIES, user_queries
from multigrain.errors import ConfigError, MultigrainError
from multigrain.recipes import recipe_names, recipe_summary
from multigrain.sources.source import look_at_input
from multigrain.storage.files import atomic_write
from multigrain.tools.start import Start, documents_error, recipe_line, start_text


def init(
    path: Annotated[Path, typer.Argument(metavar="[CONFIG]", help="The file to write.")] = Path("config.yaml"),
    documents: Annotated[
        str | None,
        typer.Option(
            "--documents",
            "-d",
            help="Your documents: a folder, or a .jsonl, .csv or .parquet file. Or labelled queries: such a file with "
            "queries and answers, or a BEIR folder.",
        ),
    ] = None,
    provider: Annotated[
        Literal["local", "openai", "ollama"] | None,
        typer.Option(
            help="local: a model in this process (the default). openai: any /v1 endpoint. ollama: Ollama's, here."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The endpoint; makes the provider openai.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The language model that writes.")] = None,
    base_model: Annotated[str | None, typer.Option(metavar="NAME", help="The embedding model to tune.")] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start from a recipe; --recipe list shows what there is.")
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS", help=f"What your users type: {', '.join(USER_QUERIES)}; or several, with commas between."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write every setting, and not only those you have to decide.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Measure this machine for about ten seconds, to tell time and cost. Default: where init asks.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: defaults for what is not given.")] = False,
) -> None:
    """Write a short config to start from: only what you have to decide, with one line of why for each setting.

    It reads the first 50 documents to suggest lengths and language; documents that no run could use are refused. At a
    terminal it asks for what the options leave out; piped, or with --yes, it never asks.
    """
    if recipe == "list":
        for name in recipe_names():
            typer.echo(recipe_line(name))
        return
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already: choose another name, or --force to overwrite it")
    if recipe is not None:
        recipe_summary(recipe)  # a wrong name is told before anything is asked
    asked = () if queries is None else user_queries(queries)
    start = Start(documents, recipe, provider, base_url, model, base_model, full, asked).for_ollama()
    if documents is not None and (error := documents_error(start, path=path)) is not None:
        if (path.parent / documents).exists():
            _print("no file was written; without --documents, one is written whose documents are set by hand")
        raise error
    asks = not yes and somebody_is_there()
    if asks:
        try:
            start = ask_missing(start, beside=path.parent)
        except (typer.Abort, KeyboardInterrupt):
            raise typer.Abort("stopped; no file was written, the same command asks again") from None
    made = start_text(start, path=path)
    atomic_write(path, made.text)
    for note in made.notes:
        _print(f"note: {note}")
    config = load_config(path)
    glance = look_at_input(config)
    for note in glance.notes:
        _print(f"note: {note}")
    if glance.problem:
        _print(f"warning: {glance.problem}")
        _print(f"wrote {path}; set documents.path or fix what is there, then: multigrain run {path}")
        return
    _print(f"wrote {path} ({glance.summary}); next: multigrain run {path}")
    if asks if probe is None else probe:
        _tell_plan(config, path)


def _tell_plan(config: Config, path: Path) -> None:
    """Say what a run will take; the config is written already, so nothing that goes wrong here is an error."""
    _print("measuring this machine for about ten seconds; Ctrl-C skips it")
    quieten_libraries()
    from multigrain.tools.plan import plan_run

    try:
        for line in short_lines(plan_run(config, run_directory(path, None))):
            _print(line)
    except MultigrainError as error:
        _print(f"no estimate: {error}")
    except KeyboardInterrupt:
        _print(f"skipped; `multigrain plan {path}` measures again")


def _print(line: str) -> None:
    console().print(line, markup=False, highlight=False, soft_wrap=True)
