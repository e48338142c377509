"""Folders that embedding servers read, or a clear refusal with what is possible.

Both read the older form of a sentence-transformers folder (`older_form.py`). Read in their sources:
text-embeddings-inference 0d124dc (router/src/lib.rs), vLLM 0036026 (vllm/transformers_utils/config.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from torch import nn

from multigrain.errors import ExportError
from multigrain.export.distil import distil_to_mean
from multigrain.export.graph import is_normalised, require_text_encoder
from multigrain.export.job import Exported, ExportJob
from multigrain.export.older_form import POOLING_FLAGS, check_older_form, write_older_form
from multigrain.model.adapters import has_adapters
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.model.replacing import pooling_name

SERVABLE_POOLINGS: Final = tuple(POOLING_FLAGS)

_DTYPES: Final = ("float32", "float16", "bfloat16")
DECODERS: Final = frozenset({"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model", "Gemma3TextModel"})
"""Decoders that both servers run as embedding models."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server and what its documentation says it runs.

    Attributes:
        name: what people call it.
        architectures: transformers classes it names as embedding models.
        bidirectional: those of them that it also runs as decoders made bidirectional (`is_causal: false`).
        command: the line that serves a folder.
        settings: keys of config.json that it reads and transformers does not write.
        notes: what has to be known of a model there.
    """

    name: str
    architectures: frozenset[str]
    bidirectional: frozenset[str]
    command: Callable[[ExportJob, SentenceTransformer], str]
    settings: Callable[[SentenceTransformer], dict[str, Any]] = lambda model: {}
    notes: Callable[[SentenceTransformer], list[str]] = lambda model: []


def export_for(server: Server, job: ExportJob, folder: Path) -> Exported:
    """Write a folder for a server.

    Raises:
        ExportError: the model needs something that the server cannot compute.
    """
    _require_expressible(job.model, server)
    model, facts, lines = servable(job, server.name)
    model = _in_dtype(model, job.dtype)
    write_older_form(model, folder, server.settings(model))
    difference = check_older_form(model, folder)
    architecture = type(model.transformers_model).__name__
    if architecture not in server.architectures:
        lines.append(f"{server.name} does not name {architecture} among the embedding models it runs: try it first")
    prompts = {"query": query_prompt(model), "document": document_prompt(model)}
    lines += [
        f"the server adds no prompt by itself: put {text!r} before every {role}"
        for role, text in prompts.items()
        if text
    ]
    if not is_normalised(model):
        lines.append(
            "the model does not normalise its vectors; text-embeddings-inference does unless a request says no"
        )
    lines += server.notes(model)
    command = server.command(job, model)
    facts |= {"max_difference": difference, "pooling": pooling_name(model), "prompts": prompts, "serve": command}
    return Exported(facts=facts, lines=(*lines, "serve it:", f"  {command}"))


def servable(job: ExportJob, server: str) -> tuple[SentenceTransformer, dict[str, Any], list[str]]:
    """A job's model where its pooling is one that servers compute, else one distilled from it to mean pooling.

    Args:
        job: what is exported.
        server: what errors call the server.

    Returns:
        The model with its whole vectors, and what there is to say of cutting and distilling: facts and lines, empty
        where there was none.

    Raises:
        ExportError: the pooling is another one, and `job.distil` is None.
    """
    job, uncut = _uncut(job, server)
    pooling = pooling_name(job.model)
    if pooling in SERVABLE_POOLINGS:
        return job.model, {}, uncut
    if job.distil is None:
        raise ExportError(_refusal(pooling, server))
    distilled = distil_to_mean(job, job.distil)
    lines = [*uncut, *(f"distilled from {pooling} to mean pooling: {cost}" for cost in distilled.costs)]
    if not distilled.costs:
        lines.append("distilled, and the loss was not measured: name a labelled set with --set")
    costs = [asdict(cost) for cost in distilled.costs]
    return distilled.model, {"distilled": costs, "distilled_from": pooling}, lines


def _uncut(job: ExportJob, server: str) -> tuple[ExportJob, list[str]]:
    """The job of a model that gives whole vectors, as servers do, and what there is to say of it."""
    kept = job.model.truncate_dim
    if kept is None:
        return job, []
    whole = copy.copy(job.model)  # the same modules
    whole.truncate_dim = None
    line = (
        f"the model keeps {kept} of {whole.get_embedding_dimension()} numbers of a vector, and {server} gives all: "
        f"keep the first {kept} of each"
    )
    return replace(job, model=whole), [line]


def require_plain(
    model: SentenceTransformer, server: str, *, computed: tuple[type[nn.Module], ...] = (Normalize,)
) -> None:
    """Refuse what servers leave out in silence: modules after the pooling, pooling without the prompt, adapters.

    Args:
        model: the model.
        server: what errors call the server.
        computed: modules after the pooling that the server computes.

    Raises:
        ExportError: the model has one of these.
    """
    require_text_encoder(model)
    later = [type(module).__name__ for module in list(model.children())[2:] if not isinstance(module, computed)]
    if later:
        raise ExportError(f"{server}: {', '.join(later)} after the pooling is not exported; --to onnx keeps it")
    pools_prompt = bool(getattr(model[1], "include_prompt", True))
    if not pools_prompt and (query_prompt(model) or document_prompt(model)):
        raise ExportError(
            f"{server} pools the prompt's tokens too, and this model leaves them out; --to onnx keeps that"
        )
    if has_adapters(model):
        raise ExportError(f"{server}: merge the LoRA adapter into the weights first")


def _require_expressible(model: SentenceTransformer, server: Server) -> None:
    """Refuse what a server would leave out in silence."""
    require_plain(model, server.name)
    transformer = require_text_encoder(model)
    architecture, config = type(transformer.model).__name__, cast("Any", transformer.model.config)
    if attends_both_ways(config) and architecture in DECODERS - server.bidirectional:
        raise ExportError(
            f"{server.name} runs {architecture} with causal attention only, and this one attends both ways; "
            "use --to vllm, onnx or folder"
        )


def _refusal(pooling: str, server: str) -> str:
    return (
        f"{server} computes {', '.join(SERVABLE_POOLINGS)} pooling and this model has {pooling} pooling, which "
        "other pooling would silently change. Possible are: --distil (a short training that teaches the same encoder "
        "with mean pooling these vectors, and says what it costs), --to onnx, --to folder, examples/serve_fastapi.py"
    )


def attends_both_ways(config: Any) -> bool:
    """Whether a decoder's config says that it attends both ways."""
    causal, both_ways = (getattr(config, key, None) for key in ("is_causal", "use_bidirectional_attention"))
    return causal is False or both_ways is True


def _in_dtype(model: SentenceTransformer, dtype: str | None) -> SentenceTransformer:
    if dtype is None or dtype == weights_dtype(model):
        return model
    if dtype not in _DTYPES:
        raise ExportError(f"--dtype {dtype}: is for GGUF files; give {', '.join(_DTYPES)}")
    turned = copy.deepcopy(model).to(getattr(torch, dtype))
    cast("Transformer", turned[0]).model.config.dtype = getattr(torch, dtype)
    return turned


def weights_dtype(model: SentenceTransformer) -> str:
    """The name of the type that a model's weights are held in, e.g. float32."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")
