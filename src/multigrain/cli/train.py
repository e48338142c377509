"""`multigrain train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import CONFIG_HERE, ConfigHereArgument, JsonOption, RedoOption, RunOption, run_directory
from multigrain.cli.stages import run_command
from multigrain.config.file import load_config

if TYPE_CHECKING:
    from multigrain.training.estimate import TrainingEstimate


def train(
    config: ConfigHereArgument = CONFIG_HERE,
    run: RunOption = None,
    as_json: JsonOption = False,
    redo: RedoOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Take three steps of each candidate and print what all will take; keep nothing."
        ),
    ] = False,
) -> None:
    """Train the config's candidates on the graded rows, from easy to hard.

    Interrupted training resumes from its last checkpoint with the very batches that remain; Ctrl-C writes one first.
    """
    if not dry_run:
        run_command(config, run, "train", as_json=as_json, redo=redo)
        return
    settings = load_config(config)
    quieten_libraries()
    from multigrain.tools.training_estimate import estimate_candidates
    from multigrain.training.processes import check_sharding, is_main_process

    check_sharding(settings.training)
    estimates = estimate_candidates(settings, Path(run_directory(config, run)))
    if not is_main_process():
        return
    if as_json:
        print_json({"candidates": list(map(asdict, estimates))})
    else:
        typer.echo("\n".join(map(_line, estimates)) or "every candidate is trained already")


def _line(estimate: TrainingEstimate) -> str:
    minutes, seconds = divmod(round(estimate.seconds), 60)
    return (
        f"{estimate.candidate}: about {minutes} min {seconds} s for {estimate.steps:,} steps "
        f"({estimate.seconds_a_step:.2f} s each), {_gigabytes(estimate.memory_bytes)} of {estimate.memory_of} memory, "
        f"{estimate.tuned_weights:,} of {estimate.weights:,} weights learn, {_gigabytes(estimate.checkpoint_bytes)} "
        f"of disk for checkpoints and {_gigabytes(estimate.model_bytes)} for the model"
    )


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB"
