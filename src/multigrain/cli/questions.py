"""The questions of `multigrain init` at a terminal; Enter takes the default answer of each."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import typer

from multigrain.config.queries import USER_QUERIES, UserQueries, user_queries
from multigrain.errors import ConfigError, MultigrainError
from multigrain.recipes import recipe_names
from multigrain.tools.labelled_input import look_for_labels
from multigrain.tools.start import (
    OLLAMA_MODEL,
    OLLAMA_URL,
    OPENAI_URL,
    Start,
    documents_error,
    recipe_line,
    recipe_values,
)

_SERVED_HERE = "http://localhost:8000/v1"
_LIKELY_FOLDERS = ("documents", "docs", "data", "corpus")
_NO_RECIPE = "none"


def somebody_is_there() -> bool:
    """Whether a person can be asked: stdin and stdout are terminals."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask_missing(start: Start, *, beside: Path) -> Start:
    """Ask for whatever the command line left out.

    Args:
        start: what it gave.
        beside: the folder of the config, from which its paths are taken.
    """
    typer.echo("Enter takes the answer in brackets. Every answer is a line in the file, and can be changed there.\n")
    own = {} if start.recipe is None else recipe_values(start.recipe)
    if start.documents is None and (not own or "path" in own.get("documents", {})):
        start = replace(start, documents=_documents(beside))
    if start.recipe is None and start.provider is None and start.base_url is None:
        chosen = _recipe()
        start = replace(start, recipe=chosen)
        own = {} if chosen is None else recipe_values(chosen)
    start = _language_model(start, own.get("llm", {}), has_recipe=bool(own))
    if start.recipe is None and not start.queries and not _gives_queries(start, beside):
        start = replace(start, queries=_queries())
    if start.base_model is None:
        base = own.get("training", {}).get("base_model", "auto")
        typer.echo(
            "\nThe model to tune: a sentence-transformers model of the hub, or a folder. auto: all-MiniLM-L6-v2."
        )
        start = replace(start, base_model=typer.prompt("base model", default=base))
    return start


def _gives_queries(start: Start, beside: Path) -> bool:
    """Whether the documents are queries with their answers, so that none is written."""
    path = start.documents or ""
    labels = (
        None if not path or path.startswith("hf:") else look_for_labels(beside / Path(path).expanduser(), shown=path)
    )
    return labels is not None and labels.trains


def _documents(beside: Path) -> str:
    likely = _likely_folder(beside)
    typer.echo(
        "Your documents: a folder of text files, or one .jsonl, .csv, .tsv or .parquet file.\n"
        "Or labelled queries: such a file with queries and answers, or a BEIR folder."
    )
    while True:
        answer: str = typer.prompt("documents", default=likely).strip()
        path = Path(answer).expanduser()
        if answer.startswith("hf:"):
            return answer
        if (beside / path).exists():
            problem = _problem(str(path), beside)
            if problem is None:
                return str(path)
            typer.echo(f"  {problem}")
        else:
            typer.echo(f"  {answer}: nothing there, seen from {beside.resolve()}.")
        if _yes("  Write it down anyway?"):
            return str(path)


def _problem(documents: str, beside: Path) -> str | None:
    """Why no run could use documents; None where one could."""
    try:
        error = documents_error(Start(documents), path=beside / "config.yaml")
    except MultigrainError as raised:
        error = raised
    return None if error is None else str(error)


def _likely_folder(beside: Path) -> str:
    """The default answer: a folder of a usual name, else the only folder, else a usual name."""
    usual = next((name for name in _LIKELY_FOLDERS if (beside / name).is_dir()), None)
    if usual is not None or not beside.is_dir():
        return usual or _LIKELY_FOLDERS[0]
    folders = [path.name for path in beside.iterdir() if path.is_dir() and path.name[0] not in "._"]
    others = [name for name in folders if name != "runs"]
    return others[0] if len(others) == 1 else _LIKELY_FOLDERS[0]


def _recipe() -> str | None:
    names = [name for name in recipe_names() if "path" in recipe_values(name).get("documents", {})]
    typer.echo("\nA recipe is a config made for a known case. If unsure, take none: what matters first, explained.")
    for name in (_NO_RECIPE, *names):
        none = f"{name:<18}no recipe: what matters first, explained"
        typer.echo(f"  {none if name == _NO_RECIPE else recipe_line(name)}")
    answer = _one_of("recipe", (_NO_RECIPE, *names), default=_NO_RECIPE)
    return None if answer == _NO_RECIPE else answer


def _language_model(start: Start, own: dict[str, str], *, has_recipe: bool) -> Start:
    """Ask for the language model: the provider where no recipe decides it, then the endpoint and the model."""
    usual_url: str | None = None
    usual_model: str | None = None
    if not has_recipe and start.provider is None and start.base_url is None:
        typer.echo(
            "\nThe language model that writes. local: a small one inside this process, for trying things out; needs "
            "no key.\nopenai: any OpenAI-compatible endpoint (vLLM, OpenAI, …): better queries and negatives.\n"
            "ollama: the endpoint of Ollama on this machine."
        )
        chosen = _one_of("provider", ("local", "openai", "ollama"), default=_usual_provider())
        start = replace(start, provider="openai" if chosen == "ollama" else chosen)
        if chosen == "ollama":
            usual_url, usual_model = OLLAMA_URL, OLLAMA_MODEL
    endpoint = own.get("provider") == "openai" if has_recipe else start.wants_endpoint
    if not endpoint:
        return start
    if start.base_url is None:
        typer.echo("")
        environment_url = os.environ.get("OPENAI_BASE_URL") or (
            OPENAI_URL if os.environ.get("OPENAI_API_KEY") else None
        )
        usual_url = own.get("base_url") or usual_url or environment_url or _SERVED_HERE
        start = replace(start, base_url=typer.prompt("endpoint", default=usual_url))
    if start.model is None:
        usual = (
            own.get("model")
            or usual_model
            or ("gpt-4o-mini" if start.base_url == OPENAI_URL else "Qwen/Qwen2.5-7B-Instruct")
        )
        start = replace(start, model=typer.prompt("its model", default=usual))
    return start


def _usual_provider() -> str:
    endpoint_known = any(os.environ.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"))
    embedded = any(find_spec(runtime) is not None for runtime in ("openvino_genai", "xllamacpp"))
    return "openai" if endpoint_known or not embedded else "local"


def _queries() -> tuple[UserQueries, ...]:
    typer.echo(
        "\nWhat do your users type? Written queries should look like theirs. One, or several "
        "with commas: questions, keywords"
    )
    for name, example in USER_QUERIES.items():
        typer.echo(f"  {name:<12}{example}")
    while True:
        answer: str = typer.prompt("your users type", default="mixed")
        try:
            return user_queries(answer)
        except ConfigError as error:
            typer.echo(f"  {error}")


def _yes(question: str) -> bool:
    """Ask a question; Enter means no."""
    while True:
        answer: str = typer.prompt(f"{question} [y/N]", default="n", show_default=False).strip().lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        typer.echo(f"  {answer!r} is neither: y for yes, n or Enter for no.")


def _one_of(question: str, choices: Sequence[str], *, default: str) -> str:
    while True:
        answer: str = typer.prompt(question, default=default).strip()
        if answer in choices:
            return answer
        typer.echo(f"  {answer!r} is none of {', '.join(choices)}.")
