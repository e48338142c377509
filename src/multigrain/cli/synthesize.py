"""`multigrain synthesize`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import (
    CONFIG_HERE,
    ConfigHereArgument,
    JsonOption,
    MaxCostOption,
    MaxTokensOption,
    RedoOption,
    RunOption,
    run_directory,
)
from multigrain.cli.stages import run_command, with_limits
from multigrain.config.file import load_config
from multigrain.display.numbers import dollars

if TYPE_CHECKING:
    from multigrain.tools.synthesis_estimate import Estimate, StrategyShare


def synthesize(
    config: ConfigHereArgument = CONFIG_HERE,
    run: RunOption = None,
    as_json: JsonOption = False,
    redo: RedoOption = False,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the first prompts, counts, estimated tokens and price; ask nothing."),
    ] = False,
) -> None:
    """Read the documents and write queries and graded negatives for them.

    Every completion is on disk before it counts: interrupted anywhere, the same command continues where it stopped.
    """
    if not dry_run:
        run_command(config, run, "synthesize", as_json=as_json, redo=redo, max_cost=max_cost, max_tokens=max_tokens)
        return
    settings = with_limits(load_config(config), max_cost, max_tokens)
    quieten_libraries()
    from multigrain.tools.synthesis_estimate import dry_run as estimate_run

    estimate = estimate_run(settings, run_directory(config, run))
    if as_json:
        print_json(asdict(estimate))
    else:
        typer.echo("\n".join(_lines(estimate)))


def _lines(estimate: Estimate) -> list[str]:
    prompts: list[str] = []
    for number, messages in enumerate(estimate.prompts, start=1):
        prompts.append(f"--- prompt {number} of about {estimate.requests:,}")
        prompts += [f"[{message.role}]\n{message.content}\n" for message in messages]
    price = "unknown: set llm.prices in the config"
    if estimate.cost is not None and estimate.cost_at_most is not None:
        at_most = dollars(estimate.cost_at_most)
        price = f"about {dollars(estimate.cost)}, {at_most} if every answer is as long as allowed"
        if estimate.requests_at_most > estimate.requests:
            price += " and judges reject whatever they can"
    if estimate.unpriced:
        price += f"; nobody knows what {' and '.join(estimate.unpriced)} costs"
        price += ", which is left out: set llm.prices in the config" if estimate.cost is not None else ""
    in_journal = f", {estimate.in_journal:,} of them in the journal already" if estimate.in_journal else ""
    shares = [
        f"  {name}: {share.rows:,} rows, about {share.requests:,} requests{_most(share)}, "
        f"{share.prompt_tokens:,} tokens to read and {share.completion_tokens:,} to write"
        for name, share in estimate.strategies.items()
    ]
    embedded = [
        f"embeddings  at most {part.texts:,} texts of {part.tokens:,} tokens in {part.requests:,} requests, by {name}"
        for name, part in estimate.embeddings.items()
    ]
    return [
        *prompts,
        f"rows        {estimate.rows:,}",
        *(shares if len(shares) > 1 else ()),
        f"requests    about {estimate.requests:,}{_most(estimate)}{in_journal}",
        f"tokens      about {estimate.prompt_tokens:,} to read and {estimate.completion_tokens:,} to write "
        f"(at most {estimate.completion_tokens_at_most:,})",
        *embedded,
        f"price       {price}",
        *(
            [f"memory      at most about {local.memory_bytes / 2**20:,.0f} MiB, in {local.runtime}: {local.reason}"]
            if (local := estimate.local) is not None
            else ()
        ),
    ]


def _most(part: Estimate | StrategyShare) -> str:
    return f" (at most {part.requests_at_most:,})" if part.requests_at_most > part.requests else ""
