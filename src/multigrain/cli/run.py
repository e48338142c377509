"""`multigrain run`."""

from __future__ import annotations

from multigrain.cli.options import (
    CONFIG_HERE,
    ConfigHereArgument,
    JsonOption,
    MaxCostOption,
    MaxTokensOption,
    RedoOption,
    RunOption,
)
from multigrain.cli.stages import run_command


def run(
    config: ConfigHereArgument = CONFIG_HERE,
    run: RunOption = None,
    as_json: JsonOption = False,
    redo: RedoOption = False,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
) -> None:
    """Do everything: synthesize, audit, train, evaluate, report.

    Complete stages are kept. Interrupted anywhere, the same command continues where it stopped.
    """
    run_command(config, run, "run", as_json=as_json, redo=redo, max_cost=max_cost, max_tokens=max_tokens)
