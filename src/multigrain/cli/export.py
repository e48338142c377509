"""`multigrain export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.model_options import retrieval_sets
from multigrain.cli.options import CandidateOption, JsonOption, is_config, require_fitting, run_of
from multigrain.errors import RunDirectoryError
from multigrain.export.registry import EXPORTERS, forms

if TYPE_CHECKING:
    from multigrain.encoders.facts import EncodingFacts
    from multigrain.export.job import DistilSettings, ExportJob, FinishedRun, RerankerJob

# Which of our forms heed an option.
_HEEDED = {"int8": ("onnx", "transformers-js"), "distil": ("gguf", "vllm", "tei"), "dtype": ("gguf", "vllm", "tei")}


def export(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN | CONFIG | MODEL",
            help="A run directory or its config, or a model: a folder, a hub id, package:NAME, or auto.",
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="FORM", help=f"{forms()} Or an exporter of an installed package.")
    ],
    candidate: CandidateOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Default: RUN/exports/FORM, RUN/exports/NAME-FORM for a reranker, or NAME-FORM for a model.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies in --out.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="onnx, transformers-js: write a quantised graph too.")] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SET",
            help="[NAME=]PATH of a labelled set that int8, gguf, static and --distil are measured on: a BEIR folder, "
            "or package:NAME/FILE. Default: the run's validation queries.",
        ),
    ] = None,
    max_queries: Annotated[int | None, typer.Option(min=2, help="Take a seeded sample of queries.")] = None,
    max_documents: Annotated[int | None, typer.Option(min=1, help="Take a seeded sample of documents.")] = None,
    distil: Annotated[
        bool,
        typer.Option("--distil", help="gguf, vllm, tei: teach the encoder the vectors with mean pooling first."),
    ] = False,
    distil_steps: Annotated[int, typer.Option(min=1, help="Steps of --distil, of 32 texts each.")] = 300,
    texts: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Documents to distil on. Default: the run's documents and queries."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16", "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] | None,
        typer.Option(
            help="Of the weights. vllm, tei: float32, float16, bfloat16; default: as loaded. gguf: the others; "
            "default: f32."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and of --distil.")] = 13,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a model to production: ONNX, OpenVINO, GGUF, fastembed, a static model, a self-contained folder, servers.

    Every export is compared with the model before it appears, and fails loudly where vectors differ. Rerankers have
    the forms onnx and openvino, and are compared by their scores.
    """
    EXPORTERS.get(to)  # an unknown name fails before a model is loaded
    _require_fitting(context, to)
    quieten_libraries()
    from multigrain.export.job import open_run
    from multigrain.export.registry import check_destination, export_model, require_reranker_form
    from multigrain.model.scoring_head import is_reranker

    path = Path(model)
    run = open_run(run_of(path), candidate)
    if run is None:
        require_fitting(context, {"candidate"}, f"names a model of a run, and {model} is none")
    if is_config(path):
        if run is None:
            raise RunDirectoryError(f"{run_of(path)}: no run here; `multigrain run {path}` makes one")
        model = str(run_of(path))
    reranks = is_reranker(model) if run is None else run.is_reranker
    if reranks:
        require_reranker_form(to, model)
    folder = run and run.exports / (f"{run.model.name}-{to}" if reranks else to)
    destination = out or folder or Path(f"{Path(model.rstrip('/')).name.replace(':', '-')}-{to}")
    check_destination(destination, overwrite=overwrite)
    of_job = {
        "source": model,
        "destination": destination,
        "sets": retrieval_sets(run, sets or [], max_queries, max_documents, seed),
        "int8": int8,
        "progress": terminal_progress(),
    }
    reference = model if run is None else str(run.model)
    job: ExportJob | RerankerJob
    if reranks:
        facts, words, job = _reranker_job(reference, trust_remote_code, of_job)
    else:
        taught = _distil_settings(run, texts, distil_steps, seed) if distil else None
        facts, job = _embedder_job(
            reference, trust_remote_code, of_job | {"distil": taught, "dtype": dtype}, run is None
        )
        words = str(facts)
    exported = export_model(job, to)
    if as_json:
        of_model = {"model": model, "to": to, "out": str(destination), "facts": asdict(facts)}
        print_json(of_model | exported.facts)
        return
    for line in (f"{model}: {words}", *exported.lines, f"written: {destination}"):
        typer.echo(line)


def _embedder_job(
    reference: str, trusted: bool, of_job: dict[str, Any], is_named: bool
) -> tuple[EncodingFacts, ExportJob]:
    from multigrain.encoders.encoder import encoding_facts
    from multigrain.export.job import ExportJob
    from multigrain.model.adapters import merge_adapters
    from multigrain.model.encoder import load
    from multigrain.model.loading import is_raw

    encoder = load(reference, device="cpu", trust_remote_code=trusted)
    merge_adapters(encoder)  # other runtimes know no LoRA
    facts = encoding_facts(encoder, guessed=is_named and is_raw(reference))
    return facts, ExportJob(model=encoder.eval(), **of_job)


def _reranker_job(reference: str, trusted: bool, of_job: dict[str, Any]) -> tuple[EncodingFacts, str, RerankerJob]:
    from multigrain.encoders.cross_encoder import load_cross_encoder
    from multigrain.encoders.facts import EncodingFacts
    from multigrain.export.graph import token_limit
    from multigrain.export.job import RerankerJob
    from multigrain.model.reranker import describe_reranker

    reranker = load_cross_encoder(reference, setting="reranker", device="cpu", trust_remote_code=trusted)
    facts = EncodingFacts(max_tokens=token_limit(reranker), dtype=str(reranker.dtype).removeprefix("torch."))
    words = f"a reranker: {describe_reranker(reranker)}"
    return facts, words, RerankerJob(model=reranker.eval(), **of_job)


def _require_fitting(context: typer.Context, to: str) -> None:
    """Refuse options that a form of ours would ignore; what other packages' exporters heed is theirs to say."""
    for option, heeding in _HEEDED.items():
        if to in EXPORTERS.built_in and to not in heeding:
            require_fitting(context, {option}, f"is for --to {' and '.join(heeding)}; --to {to} has no use for it")


def _distil_settings(run: FinishedRun | None, texts: Path | None, steps: int, seed: int) -> DistilSettings:
    from multigrain.config import DocumentsConfig
    from multigrain.export.job import DistilSettings
    from multigrain.sources.load import read_documents

    if texts is None and run is None:
        raise typer.BadParameter("--distil learns from texts: give a run directory, or documents with --texts")
    documents = run.documents if run else ()
    if texts is not None:
        documents = tuple(document.text for document in read_documents(DocumentsConfig(path=texts))[0])
    return DistilSettings(documents=documents, queries=run.queries if run else (), steps=steps, seed=seed)
