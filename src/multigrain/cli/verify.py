"""`multigrain verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.model_options import MaxDocumentsOption, MaxQueriesOption, TrustOption, retrieval_sets
from multigrain.cli.options import JsonOption, is_config, run_of
from multigrain.encoders.wires import Protocol
from multigrain.errors import RunDirectoryError
from multigrain.export.verify.prompting import Prompting

OTHER_VECTORS: Final = 12
"""What the command exits with where the server gives other vectors."""


def verify(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN | CONFIG | MODEL",
            help="What should be served: a run directory or its config, or a model: a folder, a hub id, package:NAME.",
        ),
    ],
    served: Annotated[
        str, typer.Option("--served", metavar="URL", help="The server, with or without its protocol's path.")
    ],
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="How it is asked: openai (vLLM and most others), tei, llamacpp, ollama; auto asks the server."
        ),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The served model's name. Default: the first that it lists.")
    ] = None,
    prompts: Annotated[
        Prompting | None,
        typer.Option(
            help="Who puts the model's prompts before texts: sent, the client; named, the server where a request says "
            "prompt_name; added, the server by itself. Default: named for tei, else sent."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SET",
            help="[NAME=]PATH of a labelled set to measure nDCG@10 on: a BEIR folder or package:NAME/FILE. Default: "
            "the run's validation queries.",
        ),
    ] = None,
    max_queries: MaxQueriesOption = None,
    max_documents: MaxDocumentsOption = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="The largest difference between numbers of vectors of length 1 that passes."),
    ] = 1e-4,
    batch_size: Annotated[int, typer.Option(min=2, help="Texts a request.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Of samples.")] = 13,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a running server with the model's folder: vectors, nDCG@10, and the reason where they differ.

    Texts are asked alone and in batches: short and long ones, several scripts, and the run's or the sets' own. Exit
    codes: 0 the same vectors, 12 other vectors, 5 no usable server, 9 answers that are no vectors.
    """
    quieten_libraries()
    from multigrain.encoders.server import find_server
    from multigrain.export.job import open_run
    from multigrain.export.verify.check import VerifyJob
    from multigrain.export.verify.check import verify as compare_with_server
    from multigrain.model.adapters import merge_adapters
    from multigrain.model.encoder import load

    server = find_server(served, protocol, name)  # a wrong address fails before a model is loaded
    run = open_run(run_of(Path(model)))
    if is_config(Path(model)) and run is None:
        raise RunDirectoryError(f"{run_of(Path(model))}: no run here; `multigrain run {model}` makes one")
    encoder = load(model if run is None else str(run.model), device="cpu", trust_remote_code=trust_remote_code)
    merge_adapters(encoder)
    job = VerifyJob(
        model=encoder.eval(),
        source=model,
        server=server,
        prompting=prompts or ("named" if server.wire.name == "tei" else "sent"),
        sets=retrieval_sets(run, sets or [], max_queries, max_documents, seed),
        tolerance=tolerance,
        batch_size=batch_size,
        seed=seed,
        progress=terminal_progress(),
    )
    found = compare_with_server(job)
    if as_json:
        print_json({"model": model, **server.facts(), "prompts": job.prompting, **found.facts()})
    else:
        typer.echo(f"{model} and {server}, prompts {job.prompting}")
        for line in found.lines():
            typer.echo(line)
    if not found.same:
        raise typer.Exit(OTHER_VECTORS)
