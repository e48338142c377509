"""Folders that embedding servers read, or a clear refusal with what is possible.

Both read the older form of a sentence-transformers folder, which sentence-transformers itself no longer writes:
pooling as `pooling_mode_*` flags, module types under `sentence_transformers.models`, the length limit in
`sentence_bert_config.json`. Read in their sources: text-embeddings-inference 0d124dc (router/src/lib.rs), vLLM 0036026
(vllm/transformers_utils/config.py).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from multigrain.errors import ExportError
from multigrain.export.distil import distil_to_mean
from multigrain.export.graph import is_normalised, require_text_encoder, token_limit
from multigrain.export.job import Exported, ExportJob
from multigrain.export.parity import QueryDocumentEncoder, check_parity
from multigrain.model.adapters import has_adapters
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.model.replacing import pooling_name

SERVABLE_POOLINGS: Final = ("mean", "cls", "last")

_FLAGS: Final = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
_DTYPES: Final = ("float32", "float16", "bfloat16")
_FOLDER_TOLERANCE: Final = 1e-5
# Servers insist on a limit.
_NO_LIMIT: Final = 512
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
    difference = write_server_folder(model, folder, server.settings(model))
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
        The model, and what there is to say of distilling: facts and lines, empty where there was none.

    Raises:
        ExportError: the pooling is another one, and `job.distil` is None.
    """
    pooling = pooling_name(job.model)
    if pooling in SERVABLE_POOLINGS:
        return job.model, {}, []
    if job.distil is None:
        raise ExportError(_refusal(pooling, server))
    distilled = distil_to_mean(job, job.distil)
    lines = [f"distilled from {pooling} to mean pooling: {cost}" for cost in distilled.costs]
    if not distilled.costs:
        lines.append("distilled, and the loss was not measured: name a labelled set with --set")
    costs = [asdict(cost) for cost in distilled.costs]
    return distilled.model, {"distilled": costs, "distilled_from": pooling}, lines


def require_plain(model: SentenceTransformer, server: str) -> None:
    """Refuse what servers leave out in silence: modules after the pooling, pooling without the prompt, adapters.

    Raises:
        ExportError: the model has one of these.
    """
    require_text_encoder(model)
    later = [type(module).__name__ for module in list(model.children())[2:] if not isinstance(module, Normalize)]
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


def write_server_folder(model: SentenceTransformer, folder: Path, settings: Mapping[str, Any] | None = None) -> float:
    """Write a mean-, cls- or last-pooled model in the form that servers read, and open it again.

    Args:
        model: the model.
        folder: where to.
        settings: more keys of config.json.

    Returns:
        The largest difference between the model's vectors and those of the folder.

    Raises:
        ExportError: the folder gives other vectors.
    """
    model.save_pretrained(str(folder), create_model_card=True)
    pooling = cast("Pooling", model[1])
    types = ("Transformer", "Pooling", "Normalize") if is_normalised(model) else ("Transformer", "Pooling")
    paths = [f"{number}_{name}" if number else "" for number, name in enumerate(types)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(zip(types, paths, strict=True))
    ]
    _write_json(folder / "modules.json", modules)
    flags = {flag: name == pooling_name(model) for name, flag in _FLAGS.items()}
    width = int(pooling.get_embedding_dimension() or 0)
    _write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags, "include_prompt": True}
    )
    config = require_text_encoder(model).model.config
    limit = token_limit(model) or getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    # Lower-casing is the tokenizer's own in tokenizer.json.
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": int(limit), "do_lower_case": False})
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", written | dict(settings or {}))
    again = SentenceTransformer(str(folder), device=str(model.device))
    again.to(next(model.parameters()).dtype)
    return check_parity(model, cast("QueryDocumentEncoder", again), what="the folder", tolerance=_FOLDER_TOLERANCE)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


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
