"""How a subcommand runs stages: load the config, show progress, print the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import run_directory
from multigrain.config import Config
from multigrain.config.file import load_config, parse_config
from multigrain.stages.fingerprints import documents_fingerprint
from multigrain.stages.table import stages_of
from multigrain.storage.rundir import RunDirectory


def run_command(
    config_path: Path,
    directory: Path | None,
    command: str,
    *,
    as_json: bool,
    redo: bool,
    max_cost: float | None = None,
    max_tokens: int | None = None,
    then: Callable[[RunDirectory], dict[str, str]] | None = None,
) -> RunDirectory:
    """Run the stages of a subcommand.

    Args:
        config_path: the config file.
        directory: the run directory; None for the default one.
        command: the subcommand.
        as_json: print a summary object.
        redo: run changed stages again.
        max_cost: goes before `synthesis.max_cost`.
        max_tokens: goes before `synthesis.max_total_tokens`.
        then: what to do with the run at the end; what it returns joins the summary object.
    """
    config = with_limits(load_config(config_path), max_cost, max_tokens)
    stages = stages_of(command)
    if "documents" in stages:
        documents_fingerprint(config)  # a wrong path is told before libraries take seconds to import
    quieten_libraries()
    from multigrain.stages.base import run_command_for
    from multigrain.stages.run import run_stages, stage_summaries
    from multigrain.training.processes import is_main_process

    completed = run_stages(
        config,
        run_directory(config_path, directory),
        stages,
        progress=terminal_progress(),
        redo=redo,
        command=run_command_for(config_path, directory),
    )
    verdict = None
    if "evaluation" in stages and is_main_process():
        from multigrain.tools.verdict_line import run_verdict

        verdict = run_verdict(completed)
        if not as_json:
            typer.echo(verdict.line())
    more = then(completed) if then is not None and is_main_process() else {}
    if as_json and is_main_process():
        summary: dict[str, Any] = {"run": str(completed.path)} | stage_summaries(completed, config, stages)
        if "report" in stages:
            summary["report"] = str(completed.report_path)
        if verdict is not None:
            summary["verdict"] = asdict(verdict)
        print_json(summary | more)
    return completed


def with_limits(config: Config, max_cost: float | None, max_tokens: int | None) -> Config:
    """The config with the spending limits of the command line, where they were given.

    Raises:
        ConfigError: a limit that the config could not have either, as it is saved there.
    """
    changes: dict[str, float] = {}
    limits = (("--max-cost", "max_cost", max_cost), ("--max-tokens", "max_total_tokens", max_tokens))
    for option, name, value in limits:
        if value is not None:
            parse_config({"synthesis": {name: value}}, origin=option)
            changes[name] = value
    return config.model_copy(update={"synthesis": config.synthesis.model_copy(update=changes)})
