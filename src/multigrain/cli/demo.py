"""`multigrain demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from multigrain.cli.console import console, print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import JsonOption, RedoOption


def demo(
    run: Annotated[Path, typer.Option("--run", "-r", metavar="DIR", help="The run directory.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seeds the sample, the writing and the training.")] = 13,
    setup_seconds: Annotated[
        float | None, typer.Option(help="How long the environment took to set up; only passed on to the summary.")
    ] = None,
    as_json: JsonOption = False,
    redo: RedoOption = False,
) -> None:
    """Tune a small model on the docstrings of your installed Python packages, and prove it.

    Real from end to end, with no key, no hub and no GPU. An embedded language model writes queries for docstrings, and
    negatives of four levels are mined. all-MiniLM-L6-v2 is trained with ATA pooling and with mean pooling. All are
    compared on summary lines that people wrote for docstrings never seen before.

    Two seconds at the start measure the machine: a slow one trains fewer steps, to end within ten minutes.
    """
    quieten_libraries()
    from multigrain.recipes import recipe
    from multigrain.tools.demo import demo_summary
    from multigrain.tools.demo_budget import run_demo

    started = time.monotonic()
    config = recipe("demo").model_copy(update={"seed": seed})
    directory, config, plan = run_demo(config, run, progress=terminal_progress(), redo=redo)
    summary = demo_summary(
        directory, config, plan, total_seconds=time.monotonic() - started, setup_seconds=setup_seconds
    )
    _show(summary)
    if as_json:
        print_json(summary)


def _show(summary: dict[str, Any]) -> None:
    table = Table(title=f"Held-out summary lines ({summary['queries']} queries)", title_justify="left")
    for column in ("model", "nDCG@10", "recall@10", "points over base [95% interval]"):
        table.add_column(column)
    for name in ("base", *summary["delta"]):
        delta = summary["delta"].get(name)
        table.add_row(
            name + (" (chosen)" if name == summary["chosen"] else ""),
            f"{summary[name]['ndcg_at_10']:.3f}",
            f"{summary[name]['recall_at_10']:.3f}",
            f"{100 * delta['mean']:+.1f} [{100 * delta['low']:+.1f}, {100 * delta['high']:+.1f}]" if delta else "",
        )
    console().print(table)
    console().print(f"Open {summary['report']} in a browser.", markup=False, highlight=False, soft_wrap=True)
