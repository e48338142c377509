"""An ONNX graph of a reranker; an int8 copy of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sentence_transformers import CrossEncoder
from torch import nn

from multigrain.export.backend_form import Backend, BackendForm, name_older_tokenizer, remove_weights
from multigrain.export.graph import token_limit
from multigrain.export.job import Exported, RerankerJob
from multigrain.export.reranker import reader
from multigrain.export.reranker.cost import DEPTH, measure_pair_costs
from multigrain.export.reranker.graph import PairGraph, activation_name
from multigrain.export.reranker.parity import ModelLogits, check_pair_parity
from multigrain.export.targets.onnx import (
    INT8_FILE,
    ONNX_FILE,
    in_float32,
    note_facts,
    quantise,
    require_onnx,
    write_graph,
    write_tokenizer,
)

READER_FILE: Final = "reranker.py"


def export(job: RerankerJob, folder: Path) -> Exported:
    """Write model.onnx, tokenizer.json, export.json, reranker.py, and model_int8.onnx where it was asked for.

    Raises:
        ExportError: the architecture cannot be traced, or the graph gives other scores.
        MissingExtraError: the extra `onnx` is not installed.
    """
    model, difference = write_onnx_folder(job, folder)
    backend = backend_of("onnx")
    facts: dict[str, Any] = {"max_difference": difference, "files": [ONNX_FILE], **backend.facts}
    lines = [f"{ONNX_FILE}: the model's scores within {difference:.1e} (log-odds)"]
    if job.int8:
        job.progress.say("export: quantising to int8")
        quantise(folder / ONNX_FILE, folder / INT8_FILE)
        facts["files"].append(INT8_FILE)
        facts["bytes"] = {name: (folder / name).stat().st_size for name in (ONNX_FILE, INT8_FILE)}
        costs = measure_pair_costs(job, ModelLogits(model), reader.Reranker(folder, INT8_FILE), "int8")
        facts |= {"int8": [asdict(cost) for cost in costs], "depth": DEPTH}
        lines += [f"{INT8_FILE}, the first {DEPTH} of BM25 sorted again: {cost}" for cost in costs]
        if not costs:
            lines.append(f"{INT8_FILE}: its loss was not measured; name a labelled set with --set")
    note_facts(folder, facts)
    lines += [
        f"use it from {READER_FILE} in the folder: numpy, onnxruntime and tokenizers are all it needs",
        backend.line,
    ]
    return Exported(facts=facts, lines=tuple(lines))


def backend_of(backend: Backend) -> BackendForm:
    """sentence-transformers' backend, which opens every reranker that is exported."""
    return BackendForm(backend, None, "CrossEncoder")


def write_onnx_folder(job: RerankerJob, folder: Path) -> tuple[CrossEncoder, float]:
    """Write the float32 graph with its tokenizer, settings and reader, and check it.

    Args:
        job: what is exported.
        folder: where to.

    Returns:
        The model in float32, and the largest difference between its scores and the graph's, in log-odds.

    Raises:
        ExportError: as `export`.
        MissingExtraError: as `export`.
    """
    require_onnx()
    model = in_float32(job.model)
    graph = PairGraph(model)
    settings = {
        "made_by": f"multigrain {version('multigrain')}",
        "model": job.source,
        "kind": "reranker",
        "architecture": graph.architecture,
        "inputs": list(graph.inputs),
        "activation": activation_name(model),
        "max_tokens": token_limit(model),
    }
    _write_backend_form(model, folder)
    write_tokenizer(model, folder / "tokenizer.json")
    note_facts(folder, settings)
    shutil.copyfile(reader.__file__, folder / READER_FILE)
    job.progress.say(f"export: tracing {graph.architecture}")
    write_graph(graph, folder / ONNX_FILE)
    job.progress.say("export: comparing the graph's scores with the model's")
    return model, check_pair_parity(model, reader.Reranker(folder), what=f"{job.source} as ONNX")


def _write_backend_form(model: CrossEncoder, folder: Path) -> None:
    """What sentence-transformers' own backends read beside the graph, in the form of its versions 4 to 6.

    Versions 4 and 5 read what turns log-odds into scores from config.json.
    """
    model.save_pretrained(str(folder), create_model_card=False)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    activation = type(model.activation_fn if isinstance(model.activation_fn, nn.Module) else nn.Identity())
    config["sentence_transformers"] = {
        "version": version("sentence-transformers"),
        "activation_fn": f"{activation.__module__}.{activation.__name__}",
    }
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    name_older_tokenizer(folder)
    again = CrossEncoder(str(folder), device="cpu")
    check_pair_parity(model, ModelLogits(again), what="the folder")
    remove_weights(folder)
