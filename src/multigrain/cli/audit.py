"""`multigrain audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import CONFIG_HERE, JsonOption, RedoOption, is_config, run_of
from multigrain.cli.stages import run_command
from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.errors import ConfigError
from multigrain.storage.rundir import RunDirectory


def audit(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="[CONFIG|FILE|RUN]",
            help="A run's YAML config; a training file of your own (JSONL, CSV, Parquet, or a folder that datasets "
            "saved); or, with --marks, a run directory or its config.",
        ),
    ] = CONFIG_HERE,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            "-r",
            metavar="DIR",
            help="The run directory. Default: runs/<name of the config file>, or <name of the training file>-audit.",
        ),
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option("--marks", metavar="FILE", help="Leave out rows that were marked bad in the report's explorer."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Form of a training file: sentence-transformers, lists, flagembedding, tevatron, ms-swift, or "
            "multigrain. "
            "Default: what its first row looks like.",
        ),
    ] = "auto",
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Settings for the audit of a training file.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", metavar="PATH", help="More documents to fill a training file's levels from."),
    ] = None,
    as_json: JsonOption = False,
    redo: RedoOption = False,
) -> None:
    """Measure negatives, drop what is unfit with a reason, and fill the four levels.

    Writes dataset/graded.parquet, dataset/rejects.parquet and dataset/audit.json.
    """
    if marks is not None:
        _apply_labels(run_of(what), marks, as_json=as_json)
    elif is_config(what) or (what / "config.yaml").is_file():
        for name, value in (
            ("--config", config),
            ("--corpus", corpus),
            ("--format", None if form == "auto" else form),
        ):
            if value is not None:
                raise ConfigError(f"{name} goes with a training file, and {what} is a config")
        run_command(what, run, "audit", as_json=as_json, redo=redo, then=None if as_json else _show_summary)
    else:
        _audit_file(what, run, form, config, corpus, as_json=as_json)


def _show_summary(run: RunDirectory) -> dict[str, str]:
    """Print what the data set holds, and the reasons for what was turned away."""
    from multigrain.tools.describe import describe

    typer.echo(str(describe(run)))
    return {}


def _audit_file(
    path: Path, directory: Path | None, form: str, config: Path | None, corpus: Path | None, *, as_json: bool
) -> None:
    from multigrain.dataset.foreign import known_format

    chosen = known_format(form)
    settings = Config() if config is None else load_config(config)
    quieten_libraries()
    from multigrain.audit.file import audit_file

    target = directory if directory is not None else Path(f"{path.stem}-audit")
    progress = terminal_progress()
    counts = audit_file(path, target, settings, form=chosen, corpus=corpus, progress=progress)
    progress.say(f"audit: {target / 'dataset' / 'graded.parquet'}; `multigrain dataset export {target}` converts it")
    if as_json:
        print_json({"run": str(target), **counts})


def _apply_labels(directory: Path, labels: Path, *, as_json: bool) -> None:
    quieten_libraries()
    from multigrain.stages.labels import apply_labels_file

    progress = terminal_progress()
    counts = apply_labels_file(directory, labels, progress=progress)
    progress.say("the data set has changed: `multigrain run CONFIG --redo` trains on what is left")
    if as_json:
        print_json({"run": str(directory), **counts})
