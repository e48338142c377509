"""A GGUF file for llama.cpp, with a Modelfile for Ollama."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer

from multigrain.display.install import install_line
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.errors import ExportError, MissingExtraError
from multigrain.export.cost import Cost, ExportedEncoder, measure_costs
from multigrain.export.graph import is_normalised, require_text_encoder
from multigrain.export.job import Exported, ExportJob
from multigrain.export.llama_cpp.architectures import architecture_of
from multigrain.export.llama_cpp.check import check_tokens, own_texts
from multigrain.export.llama_cpp.file import TYPES, dense_layers, read_tokens, write_gguf
from multigrain.export.llama_cpp.gelu import ONE_FOR_ONE, Term, terms_of, with_table_gelu
from multigrain.export.llama_cpp.runtime import LlamaCppEmbedder, context_tokens
from multigrain.export.parity import PARITY_TEXTS, PARITY_TOLERANCE, check_parity, model_vectors
from multigrain.export.servers import require_plain, servable
from multigrain.export.targets.onnx import export_settings, in_float32, note_facts
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.model.replacing import pooling_name

_SERVER: Final = "llama.cpp"


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a type of weights may change.

    Attributes:
        difference: of any number of a vector, relative to its length.
        loss: in nDCG@10, of 1; None for any.
    """

    difference: float
    loss: float | None


_LIMITS: Final = {
    "f32": _Limits(PARITY_TOLERANCE, 0.002),
    "f16": _Limits(1e-2, 0.002),
    "bf16": _Limits(5e-2, 0.01),
    "q8_0": _Limits(5e-2, 0.01),
}
# What is left of the vectors in fewer bits is measured, not judged, unless nothing is.
_COARSE: Final = _Limits(0.5, None)


def export(job: ExportJob, folder: Path) -> Exported:
    """Write NAME-TYPE.gguf, a Modelfile and export.json, and embed with the file in llama.cpp.

    Raises:
        ExportError: llama.cpp cannot compute the model, reads texts otherwise, or gives other vectors.
        MissingExtraError: the extra `gguf` is not installed.
    """
    for package in ("gguf", "xllamacpp"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "exporting to GGUF", install_line("gguf"))
    dtype = job.dtype or "f32"
    if dtype not in TYPES:
        raise ExportError(f"--dtype {dtype}: is none of a GGUF file; give {', '.join(TYPES)}")
    require_plain(job.model, _SERVER, computed=(Normalize, Dense))
    architecture = architecture_of(require_text_encoder(job.model).model)
    dense_layers(job.model)
    model, facts, lines = servable(job, _SERVER)
    model = in_float32(model)
    if getattr(model.tokenizer, "truncation_side", "right") != "right":
        raise ExportError("GGUF: its tokenizer cuts texts on the left, and llama.cpp does not cut; --to onnx keeps it")
    file = folder / f"{_file_name(job.source)}-{dtype}.gguf"
    job.progress.say(f"export: writing {file.name}")
    terms = terms_of(require_text_encoder(model).model.config, architecture, dtype)
    write_gguf(model, file, dtype, name=_file_name(job.source), terms=terms)
    job.progress.say("export: comparing llama.cpp's tokens and vectors with the model's")
    embedder = LlamaCppEmbedder(file, model)
    otherwise = check_tokens(embedder, model.tokenizer, own_texts(job.sets))
    difference = _difference(model, embedder, dtype, job.source, terms)
    costs = measure_costs(job, SentenceTransformerEncoder(model), _encoder(model, embedder, file), dtype)
    _check_costs(costs, dtype)
    _write_modelfile(folder, file, model)
    facts |= {
        "max_difference": difference,
        "dtype": dtype,
        "neurons_written": len(terms),
        "file": file.name,
        "bytes": file.stat().st_size,
        "costs": [asdict(cost) for cost in costs],
        "read_otherwise": otherwise,
        "serve": _command(job, file, model),
    }
    note_facts(folder, export_settings(model, job.source, pools_prompt=True) | facts)
    lines += _lines(model, facts, costs)
    return Exported(facts=facts, lines=tuple(lines))


def _difference(
    model: SentenceTransformer, embedder: LlamaCppEmbedder, dtype: str, source: str, terms: Sequence[Term]
) -> float:
    """The largest difference from the model, when the file has been shown to be right.

    Where llama.cpp approximates GELU, it is compared with a model that does so too: what remains is the file's.
    """
    what = f"{source} as GGUF ({dtype})"
    limit = _LIMITS.get(dtype, _COARSE).difference
    transformer = require_text_encoder(model).model
    if not architecture_of(transformer).table_gelu:
        return check_parity(model, embedder, what=what, tolerance=limit)
    like = copy.deepcopy(model)
    with_table_gelu(cast("Transformer", like[0]).model, terms)
    check_parity(like, embedder, what=what, tolerance=limit)
    texts = list(PARITY_TEXTS)
    expected = np.concatenate(model_vectors(model, texts, len(texts)))
    found = np.concatenate([embedder.encode_query(texts), embedder.encode_document(texts)])
    return float((np.abs(expected - found).max(1) / np.linalg.norm(expected, axis=1)).max())


def _encoder(model: SentenceTransformer, embedder: LlamaCppEmbedder, file: Path) -> ExportedEncoder:
    return ExportedEncoder(cast("Any", embedder), file, cosine=model.similarity_fn_name == "cosine")


def _check_costs(costs: tuple[Cost, ...], dtype: str) -> None:
    limit = _LIMITS.get(dtype, _COARSE).loss
    for cost in costs:
        if limit is not None and not cost.loss <= limit:
            raise ExportError(
                f"--dtype {dtype} loses too much, {100 * limit:g} points allowed: {cost}; take f32, or another model"
            )


def _file_name(source: str) -> str:
    name = source.rstrip("/").rpartition("/")[2].replace(":", "-")
    return name or "model"


def _write_modelfile(folder: Path, file: Path, model: SentenceTransformer) -> None:
    prompts = {"query": query_prompt(model), "document": document_prompt(model)}
    notes = [f"# Put {text!r} before every {role}: Ollama adds none.\n" for role, text in prompts.items() if text]
    (folder / "Modelfile").write_text(
        f"# ollama create {_file_name(file.stem)} -f Modelfile\n{''.join(notes)}"
        f"FROM ./{file.name}\nPARAMETER num_ctx {read_tokens(model)}\n",
        encoding="utf-8",
    )


def _command(job: ExportJob, file: Path, model: SentenceTransformer) -> str:
    limit, slots = read_tokens(model), 4
    words = ["llama-server", "--model", str(job.destination / file.name), "--embeddings", "--parallel", str(slots)]
    tokens = str(context_tokens(limit, slots))
    words += ["--ctx-size", tokens, "--batch-size", tokens, "--ubatch-size", tokens]
    words += ["--kv-unified", "--flash-attn", "off", "--cache-type-k", "f32", "--cache-type-v", "f32"]
    words += [] if is_normalised(model) else ["--embd-normalize", "-1"]
    return shlex.join(words)


def _lines(model: SentenceTransformer, facts: dict[str, Any], costs: tuple[Cost, ...]) -> list[str]:
    size = facts["bytes"] / 1e6
    lines = [
        f"{facts['file']}: {size:.0f} MB; llama.cpp gives the model's vectors within {facts['max_difference']:.1e}, "
        f"{pooling_name(model)} pooling"
    ]
    if facts["neurons_written"] > len(ONE_FOR_ONE):
        lines.append(
            f"a neuron of its feed-forward layers is written as {facts['neurons_written']}, whose approximate GELUs "
            "add up to the model's own; --dtype f16 writes each once"
        )
    lines += [f"{facts['dtype']}: {cost}" for cost in costs]
    if not costs:
        lines.append(f"{facts['dtype']}: its loss was not measured; name a labelled set with --set")
    if facts["read_otherwise"]:
        lines.append(f"llama.cpp reads these otherwise than the model: {', '.join(facts['read_otherwise'])}")
    prompts = {"query": query_prompt(model), "document": document_prompt(model)}
    lines += [f"llama.cpp adds no prompt: put {text!r} before every {role}" for role, text in prompts.items() if text]
    lines.append(f"it refuses a text of more than {read_tokens(model)} tokens: cut it before")
    return [*lines, "serve it:", f"  {facts['serve']}", "or with Ollama: ollama create NAME -f Modelfile"]
