"""`multigrain batch write` and `multigrain batch read`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import (
    CONFIG_HERE,
    ConfigArgument,
    ConfigHereArgument,
    JsonOption,
    RunOption,
    run_directory,
)
from multigrain.config.file import load_config
from multigrain.errors import SourceError

app = typer.Typer(
    help="Have the language model's part done by a batch service, at about half the price.\n\n"
    "`write` puts the requests into OpenAI-style files; hand them to the service; `read` takes its answers back into "
    "the run. Strategies that ask in steps, and answers that need a correction, take several rounds. Whatever is "
    "missing in the end, `multigrain run` asks live.",
    no_args_is_help=True,
)


@app.command()
def write(
    config: ConfigHereArgument = CONFIG_HERE,
    run: RunOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the files go. Default: batches in the run.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Write requests of earlier, unanswered files again: they were lost.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the requests that a run needs next to batch files."""
    settings = load_config(config)
    quieten_libraries()
    from multigrain.tools.batches import write_batch

    directory = run_directory(config, run)
    progress = terminal_progress()
    done = write_batch(settings, directory, out or directory / "batches", again=again, progress=progress)
    if as_json:
        print_json(
            {
                "files": [str(path) for path in done.files],
                "requests": done.requests,
                "rows_finished": done.finished,
                "rows_waiting": done.waiting,
                "rows_failed": dict(done.failed),
                "requests_over_limit": done.over_limit,
            }
        )
        return
    for path in done.files:
        typer.echo(str(path))
    failed = f", {done.failed.total()} rows failed" if done.failed else ""
    if done.over_limit:
        failed += (
            f"; {done.over_limit} more requests may pass the spending limit and were not written: read the answers "
            "first, or raise synthesis.max_cost or synthesis.max_total_tokens"
        )
    progress.say(
        f"{done.requests} requests in {len(done.files)} files; {done.finished} rows are finished, "
        f"{done.waiting} wait for answers{failed}"
    )


@app.command()
def read(
    config: ConfigArgument,
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Results and errors files that the service returned.")
    ],
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a service's answers into the run's journal. Reading a file twice changes nothing."""
    from multigrain.tools.batches import read_batch

    done = read_batch(run_directory(config, run), results)
    if as_json:
        print_json(
            {
                "kept": done.kept,
                "known": done.known,
                "failed": dict(done.failed),
                "unknown": done.unknown,
                "broken": list(done.broken),
                "refused": list(done.refused),
            }
        )
    else:
        failed = ", ".join(f"{count} {kind}" for kind, count in done.failed.items()) or "none"
        terminal_progress().say(
            f"{done.kept} answers kept, {done.known} known already, {done.unknown} of other runs; failed: {failed}"
        )
        if done.broken:
            terminal_progress().remark(
                f"left out, as they cannot be read: {len(done.broken)} of the lines, the first {done.broken[0]}; have "
                "the file sent again, or write their requests again with `multigrain batch write --again`"
            )
    if done.refused:
        others = f" ({len(done.refused)} such files)" if len(done.refused) > 1 else ""
        raise SourceError(f"{done.refused[0]}{others}; {done.kept} answers of the other files are kept")
