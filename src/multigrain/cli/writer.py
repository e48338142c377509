"""`multigrain writer`: tune the language model that writes on what the audit accepted and rejected."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.options import CompleteRunArgument, JsonOption, RedoOption, require_fitting

app = typer.Typer(help="Tune the language model that writes.", no_args_is_help=True)


@app.command()
def tune(
    context: typer.Context,
    run: CompleteRunArgument,
    objective: Annotated[
        Literal["sft", "dpo", "reward"],
        typer.Option(
            help="sft: imitate accepted completions, weighted by reward. dpo: prefer accepted to rejected ones. "
            "reward: weigh every completion by its reward less the mean."
        ),
    ] = "sft",
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="An instruct model: a folder, a hub id, or a .gguf file or package:NAME, which is dequantised. "
            "Default: the run's own writer, or the embedded one.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder under RUN/writer. Default: the objective.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="At most; they end when validation acceptance stops rising.")] = 1,
    rows: Annotated[int, typer.Option(min=8, help="Completions, or pairs, of a round at most.")] = 400,
    draws: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Answers of the model to each training prompt before a round. Default: dpo and reward 4; sft 0, or 1 "
            "with several rounds.",
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the rows.")] = 2.0,
    learning_rate: Annotated[float | None, typer.Option(help="Default: sft 2e-4, reward 5e-5, dpo 2e-5.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Completions, or pairs, a step.")] = 8,
    max_length: Annotated[int, typer.Option(min=32, help="Tokens of prompt and completion; longer are left out.")] = (
        1024
    ),
    rank: Annotated[int, typer.Option(min=1, help="Of the LoRA adapters; alpha is twice that.")] = 16,
    beta: Annotated[float, typer.Option(min=0.0, help="dpo: weight of staying near the model before.")] = 0.1,
    validation_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Training documents that only measure acceptance.")
    ] = 0.2,
    validation_rows: Annotated[int, typer.Option(min=10, help="Rows written on them at most.")] = 200,
    dtype: Annotated[
        Literal["f32", "f16", "bf16", "q8_0", "q4_1", "q4_0"], typer.Option(help="Weights of the GGUF file.")
    ] = "q8_0",
    seed: Annotated[int, typer.Option(min=0, help="Of adapters and order.")] = 13,
    redo: RedoOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tune a writer on a run's accepted and rejected completions, and write it as a GGUF file.

    The audit's own measures are the reward. Documents that the run holds out are never shown. The same command
    continues where it was interrupted. RUN/writer/NAME/config.yaml is the run's config with the tuned writer.
    """
    if objective != "dpo":
        require_fitting(context, {"beta"}, f"is for --objective dpo; --objective {objective} has no use for it")
    quieten_libraries()
    from multigrain.writer.rounds import RoundSettings, tune_writer
    from multigrain.writer.training import TuneSettings

    settings = RoundSettings(
        name=name or objective,
        base=base,
        tune=TuneSettings(
            objective=objective,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            max_length=max_length,
            rank=rank,
            alpha=2 * rank,
            beta=beta,
            seed=seed,
        ),
        rounds=rounds,
        validation_share=validation_share,
        validation_rows=validation_rows,
        rows=rows,
        draws=(int(rounds > 1) if objective == "sft" else 4) if draws is None else draws,
        dtype=dtype,
    )
    summary = tune_writer(run, settings, redo=redo, progress=terminal_progress())
    if as_json:
        print_json(summary)
        return
    best = summary["rounds"][summary["best"]]["acceptance"]
    typer.echo(f"best: round {summary['best']}, {best['share']:.0%} accepted [{best['low']:.0%}, {best['high']:.0%}]")
    typer.echo(f"writer: {summary['gguf']}")
    typer.echo(f"use it: multigrain run {summary['config']}")
