"""An ONNX graph with the pooling in it; an int8 copy with it."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer

from multigrain.display.install import install_line
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.errors import ExportError, MissingExtraError
from multigrain.export import embedder as embedder_file
from multigrain.export.backend_form import BackendForm, backend_form, write_backend_form
from multigrain.export.cost import ExportedEncoder, measure_costs
from multigrain.export.graph import EmbeddingGraph, TracedModule, is_normalised, token_limit
from multigrain.export.job import Exported, ExportJob
from multigrain.export.parity import check_parity
from multigrain.model.attention.observed import evaluating
from multigrain.model.prompts import default_prompt, document_prompt, query_prompt
from multigrain.model.replacing import pooling_name

ONNX_FILE: Final = "model.onnx"
INT8_FILE: Final = "model_int8.onnx"

# A file of the format holds at most 2 GB; weights beyond that lie beside it.
_LARGEST_FILE: Final = 1_500_000_000

_Model = TypeVar("_Model", SentenceTransformer, CrossEncoder)


def export(job: ExportJob, folder: Path) -> Exported:
    """Write model.onnx, tokenizer.json, export.json, embedder.py, and model_int8.onnx where it was asked for.

    Raises:
        ExportError: the architecture cannot be traced, or the graph gives other vectors.
        MissingExtraError: the extra `onnx` is not installed.
    """
    backend = backend_form(job, "onnx")
    model, difference = write_onnx_folder(job, folder, backend)
    facts: dict[str, Any] = {"max_difference": difference, "files": [ONNX_FILE], **backend.facts}
    lines = [f"{ONNX_FILE}: the model's vectors within {difference:.1e}; pooling and normalisation are in the graph"]
    if job.int8:
        job.progress.say("export: quantising to int8")
        quantise(folder / ONNX_FILE, folder / INT8_FILE)
        facts["files"].append(INT8_FILE)
        facts["bytes"] = {name: (folder / name).stat().st_size for name in (ONNX_FILE, INT8_FILE)}
        cosine = model.similarity_fn_name == "cosine"
        quantised = ExportedEncoder(embedder_file.Embedder(folder, INT8_FILE), folder / INT8_FILE, cosine=cosine)
        costs = measure_costs(job, SentenceTransformerEncoder(model), quantised, "int8")
        facts["int8"] = [asdict(cost) for cost in costs]
        lines += [f"{INT8_FILE}: {cost}" for cost in costs]
        if not costs:
            lines.append(f"{INT8_FILE}: its loss was not measured; name a labelled set with --set")
    note_facts(folder, facts)
    lines += [
        "use it from embedder.py in the folder: numpy, onnxruntime and tokenizers are all it needs",
        backend.line,
    ]
    return Exported(facts=facts, lines=tuple(lines))


def write_onnx_folder(
    job: ExportJob, folder: Path, backend: BackendForm | None = None
) -> tuple[SentenceTransformer, float]:
    """Write the float32 graph with its tokenizer, settings and reader, and check it.

    Args:
        job: what is exported.
        folder: where to.
        backend: whether sentence-transformers' backend shall open the folder too; None for no.

    Returns:
        The model in float32, and the largest difference between its vectors and the graph's.

    Raises:
        ExportError: as `export`.
        MissingExtraError: as `export`.
    """
    require_onnx()
    model = in_float32(job.model)
    graph = EmbeddingGraph(model, states=backend is not None and backend.opens)
    if backend is not None and backend.opens:
        write_backend_form(model, folder)
    write_tokenizer(model, folder / "tokenizer.json")
    settings = export_settings(model, job.source, pools_prompt=not graph.takes_prompt_length)
    note_facts(folder, settings)
    shutil.copyfile(embedder_file.__file__, folder / "embedder.py")
    job.progress.say(f"export: tracing {settings['architecture']} with {settings['pooling']} pooling")
    write_graph(graph, folder / ONNX_FILE)
    job.progress.say("export: comparing the graph's vectors with the model's")
    return model, check_parity(model, embedder_file.Embedder(folder), what=f"{job.source} as ONNX")


def require_onnx() -> None:
    """See that the packages are there which write and run a graph.

    Raises:
        MissingExtraError: one is not.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "exporting to ONNX", install_line("onnx"))


def note_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Add to the folder's export.json."""
    path = folder / "export.json"
    noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(noted | facts, indent=2, ensure_ascii=False), encoding="utf-8")


def in_float32(model: _Model) -> _Model:
    """The model itself where it is in float32, else a copy that is."""
    if all(tensor.dtype == torch.float32 for tensor in model.parameters()):
        return model
    return copy.deepcopy(model).float()


def write_graph(graph: TracedModule, path: Path) -> None:
    """Trace a graph and write it; batch and sequence are dynamic.

    Raises:
        ExportError: the architecture cannot be traced.
    """
    name, inputs = graph.architecture, graph.examples()
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.parameters())
    try:
        # Gradients would choose other kernels, whose layouts the exporter cannot follow (MPNet).
        with _quiet(), evaluating(graph), torch.no_grad():
            # The exporter looks at the outermost flag, not at the parts'.
            graph.training = False
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes={key: dynamic if value.ndim else None for key, value in inputs.items()},
                input_names=list(inputs),
                output_names=list(graph.outputs),
                verbose=False,
            )
            if program is None:
                raise ExportError(f"{name}: the ONNX exporter returned nothing")
            program.save(path, external_data=size > _LARGEST_FILE)
    except ExportError:
        raise
    except Exception as error:  # tracing runs the architecture's own code, which may raise anything
        raise ExportError(
            f"{name}: cannot be traced for ONNX ({_root_cause(error)}); serve it with sentence-transformers instead, "
            "or export another architecture"
        ) from error


def _root_cause(error: BaseException) -> str:
    """What went wrong first, in one line: the exporter wraps it in advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:200]


def quantise(source: Path, target: Path) -> None:
    """Weights to 8 bits; activations are quantised as they come (dynamic quantisation).

    Matrices have one scale a column. A table of embeddings has one for all of it: onnxruntime 1.32 knows no other for
    what is looked up.

    Weights are unsigned, as activations are: on a processor without VNNI, products of unsigned and signed bytes are
    added up in 16 bits and saturate, so that a file would be less exact there than where it was made.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        # One scale for a whole matrix loses several times as much.
        quantize_dynamic(str(source), str(target), per_channel=True, weight_type=QuantType.QUInt8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' notices off the screen: what fails raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_tokenizer(model: SentenceTransformer | CrossEncoder, path: Path) -> None:
    """Write a tokenizer.json that truncates and pads by itself.

    Raises:
        ExportError: the tokenizer is not a fast one, or has no padding token.
    """
    tokenizer: Any = model.tokenizer
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ExportError(f"its {type(tokenizer).__name__} has no tokenizer.json; only fast tokenizers are exported")
    if tokenizer.pad_token_id is None:
        raise ExportError("its tokenizer has no padding token; set tokenizer.pad_token and save the model again")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    limit = token_limit(model)
    if limit is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(limit, direction=tokenizer.truncation_side)
    backend.enable_padding(
        direction=tokenizer.padding_side, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
    )
    backend.save(str(path))


def export_settings(model: SentenceTransformer, source: str, *, pools_prompt: bool) -> dict[str, Any]:
    """The content of export.json, as far as the model decides it.

    Args:
        model: what is exported.
        source: what the user called it.
        pools_prompt: whether the prompt's tokens are part of the vector.
    """
    tokenizer: Any = model.tokenizer
    return {
        "made_by": f"multigrain {version('multigrain')}",
        "model": source,
        "architecture": type(model.transformers_model).__name__,
        "pooling": pooling_name(model),
        "dimension": model.get_embedding_dimension(),
        "max_tokens": token_limit(model),
        "normalised": is_normalised(model),
        "similarity": str(model.similarity_fn_name),
        "prompts": {name: text or "" for name, text in model.prompts.items()},
        "query_prompt": query_prompt(model),
        "document_prompt": document_prompt(model),
        "default_prompt": default_prompt(model),
        "pools_prompt": pools_prompt,
        "special_ids": sorted(tokenizer.all_special_ids),
    }
