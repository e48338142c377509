"""`multigrain plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import CONFIG_HERE, ConfigHereArgument, JsonOption, RunOption, run_directory
from multigrain.config.file import load_config
from multigrain.display.numbers import count, dollars, rough_duration

if TYPE_CHECKING:
    from multigrain.tools.plan import Plan


def plan(
    config: ConfigHereArgument = CONFIG_HERE,
    run: RunOption = None,
    as_json: JsonOption = False,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Measure this machine for about ten seconds, to tell the time.")
    ] = True,
) -> None:
    """Estimate rows, tokens, cost and time before anything is paid for, and the gain to expect.

    Reads the documents and measures the models that run on this machine. It asks no endpoint and writes nothing.
    """
    settings = load_config(config)
    quieten_libraries()
    from multigrain.tools.plan import plan_run

    planned = plan_run(settings, run_directory(config, run), probe=probe)
    if as_json:
        estimate = {key: value for key, value in asdict(planned.estimate).items() if key != "prompts"}
        print_json(asdict(planned) | {"estimate": estimate, "total_seconds": planned.time.total})
    else:
        typer.echo("\n".join(plan_lines(planned)))


def plan_lines(planned: Plan) -> Iterator[str]:
    """A plan for people, one fact a line."""
    estimate = planned.estimate
    if planned.documents:
        splits = ", ".join(
            f"{count(number)} {name}" for name, number in planned.documents.items() if name != "documents"
        )
        yield f"documents   {count(planned.documents['documents'])}: {splits}"
    if not estimate.requests:
        yield f"rows        {count(estimate.rows)}; no language model is asked"
    else:
        yield f"rows        {count(estimate.rows)}, written by {planned.writer}"
    if estimate.requests:
        yield (
            f"requests    about {count(estimate.requests)}: {count(estimate.prompt_tokens)} tokens to read, "
            f"{count(estimate.completion_tokens)} to write"
        )
    for name, part in estimate.embeddings.items():
        price = "price unknown" if part.cost is None else dollars(part.cost)
        yield f"embedding   {name}: at most {count(part.texts)} texts, {count(part.tokens)} tokens, {price}"
    yield from short_lines(planned)
    steps = ", ".join(f"{name} {count(number)} steps" for name, number in planned.steps.items())
    yield f"training    {planned.base}: {steps}"
    if (gain := planned.gain) is not None:
        yield (
            f"gain        {gain.least:+.1f} to {gain.most:+.1f} points of nDCG@10, {gain.mean:+.1f} on average: "
            f"measured on {gain.sets} sets with {gain.writer} and all-MiniLM-L6-v2 (docs/results.md)"
        )


def short_lines(planned: Plan) -> Iterator[str]:
    """Cost, time and test queries of a plan, for people."""
    estimate, time = planned.estimate, planned.time
    if estimate.cost is None:
        yield f"cost        unknown: set the price of {' and '.join(estimate.unpriced)} under llm.prices"
    else:
        most = "" if not estimate.cost_at_most else f", at most {dollars(estimate.cost_at_most)}"
        unknown = " and ".join(estimate.unpriced)
        left_out = f"; nobody knows what {unknown} costs, which is left out" if unknown else ""
        if estimate.cost or most or left_out:
            yield f"cost        about {dollars(estimate.cost)}{most}{left_out}"
        else:
            yield "cost        nothing: no endpoint is asked"
    parts = {
        "writing": time.synthesis,
        "audit": time.audit,
        "training": time.training,
        "evaluation": time.evaluation,
    }
    known = ", ".join(f"{name} {rough_duration(seconds)}" for name, seconds in parts.items() if seconds is not None)
    if time.total is not None:
        yield f"time        about {rough_duration(time.total)} on this {time.device}: {known}"
    else:
        yield f"time        not known{f' in full: {known}' if known else ''}"
    if time.assumed and time.synthesis:
        yield "            (writing: 2 seconds a request were assumed; the endpoint was not asked)"
    for note in planned.notes:
        yield f"            ({note})"
    if planned.test_queries is not None and planned.smallest_shown is not None:
        enough = ""
        gain, needed = planned.gain, planned.queries_for_gain
        if gain is not None and needed is not None and needed > planned.test_queries:
            enough = f"; about {count(needed)} show {gain.mean:.1f} points"
        yield (
            f"test        about {count(planned.test_queries)} queries, which show a difference of "
            f"{planned.smallest_shown:.1f} points or more four times in five{enough}"
        )
