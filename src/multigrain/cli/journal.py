"""`multigrain journal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from multigrain.cli.console import console, print_json
from multigrain.cli.options import JsonOption, run_of
from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.errors import ConfigError, RunDirectoryError


def journal(
    run: Annotated[
        Path, typer.Argument(metavar="RUN | CONFIG", help="A run directory, its config, or a journal.sqlite.")
    ],
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write every raw completion as JSON lines; - for stdout."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run's journal holds: completions, failures by kind, tokens and cost; or export it.

    The journal keeps every completion that was ever received, so a run can be resumed, and nothing is paid twice.
    """
    from multigrain.llm.session.journal import Journal
    from multigrain.llm.session.usage import read_usage
    from multigrain.storage.rundir import RunDirectory

    run = run_of(run)
    source = run if run.is_file() else RunDirectory(run)
    with Journal(source if isinstance(source, Path) else source.journal_path, create=False) as opened:
        if export is not None:
            count = _export(opened, export)
            console().print(f"{count} completions exported", highlight=False)
            return
    values = read_usage(source, _saved_config(run)).summary()
    if as_json:
        print_json(values)
    else:
        typer.echo("\n".join(_lines(values)))


def _export(opened: Any, target: Path) -> int:
    import sys

    if str(target) == "-":
        return int(opened.export(sys.stdout))
    try:
        with target.open("w", encoding="utf-8") as stream:
            return int(opened.export(stream))
    except OSError as error:
        raise RunDirectoryError(f"--export {target}: cannot be written ({error.strerror})") from None


def _saved_config(run: Path) -> Config | None:
    try:
        return load_config(run / "config.yaml")
    except ConfigError:  # none, or an older version's: the counts are worth showing without a price
        return None


def _lines(values: dict[str, Any]) -> list[str]:
    failures = ", ".join(f"{count} {kind}" for kind, count in values["failures"].items()) or "none"
    lately = [f"  {kind}: {detail}" for kind, detail in values["failure_details"].items() if detail]
    estimated = f" ({values['uncounted']:,} answers without a count: estimated)" if values["uncounted"] else ""
    cost = "unknown (set llm.prices in the config)" if values["cost"] is None else f"${values['cost']:.4f}"
    batches = f" ({values['from_batches']} from batch files)" if values["from_batches"] else ""
    waiting = f"\nawaiting    {values['awaiting_batch']} answers from batch files" if values["awaiting_batch"] else ""
    return [
        f"journal     {values['journal']}",
        f"completions {values['completions']:,}{batches}, {values['cut_at_limit']:,} cut at the token limit{waiting}",
        f"failures    {failures}",
        *lately,
        f"tokens      {values['prompt_tokens']:,} read ({values['cached_tokens']:,} cached), "
        f"{values['completion_tokens']:,} written{estimated}",
        f"cost        {cost}",
    ]
