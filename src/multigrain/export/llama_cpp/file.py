"""Write a mean-, cls- or last-pooled model as a GGUF file, by the package `gguf`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from torch import Tensor

from multigrain.errors import ExportError
from multigrain.export.graph import is_normalised, require_text_encoder, token_limit
from multigrain.export.llama_cpp.architectures import Architecture, architecture_of, write_common
from multigrain.export.llama_cpp.gelu import Term, terms_of
from multigrain.export.llama_cpp.vocabulary import write_vocabulary
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.model.replacing import pooling_name

TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""Types of weights that the package gguf writes and llama.cpp computes with."""

_LEFT_OUT: Final = ("pooler.", "embeddings.position_ids", "rotary_emb.")
_DENSE: Final = ("dense_2", "dense_3")
# Read one row at a time or added to, never multiplied with: they stay as they are.
_EXACT: Final = ("position_embd.weight", "token_types.weight")


def read_tokens(model: SentenceTransformer) -> int:
    """Tokens of a text that a GGUF of a model reads: its limit, or that of its positions."""
    positions = getattr(require_text_encoder(model).model.config, "max_position_embeddings", None)
    limits = [limit for limit in (token_limit(model), positions) if limit]
    if not limits:
        raise ExportError("GGUF: a file says how many tokens are read, and the model has no limit: set max_seq_length")
    return min(limits)


def write_gguf(
    model: SentenceTransformer, path: Path, dtype: str, *, name: str, terms: Sequence[Term] | None = None
) -> None:
    """Write a model.

    Args:
        model: pooled by mean, cls or last.
        path: the file.
        dtype: one of `TYPES`: of matrices; vectors stay float32. Rows that do not divide into blocks are float16.
        name: what the file says it is.
        terms: what each neuron of the feed-forward layers is written as; None for those of `terms_of`.

    Raises:
        ExportError: its architecture or its tokenizer is none that llama.cpp has.
    """
    import gguf

    transformer: Any = require_text_encoder(model).model
    architecture = architecture_of(transformer)
    limit = read_tokens(model)
    if terms is None:
        terms = terms_of(transformer.config, architecture, dtype)
    writer = gguf.GGUFWriter(path, architecture.name)
    try:
        write_name(writer, name, dtype)
        write_common(writer, transformer.config, limit, len(terms))
        architecture.write(writer, transformer)
        writer.add_pooling_type(gguf.PoolingType[pooling_name(model).upper()])
        _write_notes(writer, model)
        write_vocabulary(writer, model.tokenizer, transformer.get_input_embeddings().weight.shape[0])
        write_weights(writer, transformer, architecture, dtype, limit, terms)
        _write_dense(writer, model, dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _write_notes(writer: Any, model: SentenceTransformer) -> None:
    """What llama.cpp does not act on, and whoever asks it has to."""
    writer.add_string("multigrain.query_prompt", query_prompt(model))
    writer.add_string("multigrain.document_prompt", document_prompt(model))
    writer.add_bool("multigrain.normalised", is_normalised(model))


def dense_layers(model: SentenceTransformer) -> list[Dense]:
    """The Dense layers behind a model's pooling, which llama.cpp computes in EmbeddingGemma alone.

    Raises:
        ExportError: it would leave them, or a part of them, out.
    """
    later = list(model.children())[2:]
    found = [module for module in later if isinstance(module, Dense)]
    if not found:
        return []
    transformer = require_text_encoder(model).model
    width = transformer.config.hidden_size
    plain = all(
        not layer.bias
        and not layer.use_residual
        and isinstance(layer.activation_function, torch.nn.Identity)
        and layer.module_input_name == layer.module_output_name == "sentence_embedding"
        for layer in found
    )
    placed = later[: len(found)] == found and len(found) == len(_DENSE)
    sized = found[0].in_features == found[-1].out_features == width
    if not (architecture_of(transformer).dense and plain and placed and sized):
        raise ExportError(
            "GGUF: llama.cpp computes Dense layers behind the pooling in EmbeddingGemma (Gemma 3, both ways) alone: "
            f"two, from and to {width} numbers, of no bias and no activation; --to onnx keeps what this model has"
        )
    return found


def _write_dense(writer: Any, model: SentenceTransformer, dtype: str) -> None:
    for name, layer in zip(_DENSE, dense_layers(model), strict=False):
        writer.add_dense_features_dims(name, layer.in_features, layer.out_features)
        weight = layer.linear.weight.detach().to("cpu", torch.float32).contiguous().numpy()
        data, kind = quantised(weight, dtype)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)


def write_name(writer: Any, name: str, dtype: str) -> None:
    """Say that a file holds a model of this name, in which type its weights are, and who wrote them."""
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_quantized_by(f"multigrain {version('multigrain')}")
    writer.add_file_type(file_type(dtype))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write_weights(
    writer: Any, transformer: Any, architecture: Architecture, dtype: str, limit: int, terms: Sequence[Term]
) -> None:
    """Write the weights of a transformer without a head.

    Args:
        writer: a GGUFWriter.
        transformer: of transformers.
        architecture: its row of the table.
        dtype: see `write_gguf`.
        limit: positions that are kept where they have embeddings.
        terms: see `write_gguf`.

    Raises:
        ExportError: llama.cpp has no place for a weight.
    """
    import gguf

    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture.name)
    names = gguf.get_tensor_name_map(number, transformer.config.num_hidden_layers)
    for own, weight in transformer.state_dict().items():
        if own.startswith(_LEFT_OUT) or "rotary_emb." in own:
            continue
        name = _name(names, own)
        if name is None:
            raise ExportError(f"GGUF: llama.cpp has no place for {own} in {architecture.name}; --to onnx keeps it")
        held = architecture.change(own, weight.detach().to("cpu", torch.float32), transformer.config)
        held = _in_terms(held, own, architecture, terms)
        if name == "position_embd.weight":
            held = held[:limit]
        data, kind = quantised(held.contiguous().numpy(), dtype if name not in _EXACT else "f32")
        writer.add_tensor(name, data, raw_dtype=kind)


def _in_terms(weight: Tensor, own: str, architecture: Architecture, terms: Sequence[Term]) -> Tensor:
    """A weight of a feed-forward layer, each of whose neurons becomes several."""
    if len(terms) == 1 or not architecture.feed_forward:
        return weight
    begins, ends = (re.search(pattern, own) for pattern in architecture.feed_forward)
    if begins:
        return torch.cat([term.inner * weight for term in terms])
    if ends and weight.ndim > 1:
        return torch.cat([term.outer * weight for term in terms], dim=1)
    return weight


def _name(names: Any, own: str) -> str | None:
    """llama.cpp's name of a weight. Its table has the names of models with a head, whose encoder is `model`."""
    suffixes = (".weight", ".bias")
    found: str | None = names.get_name(own, try_suffixes=suffixes)
    return found or names.get_name(f"model.{own}", try_suffixes=suffixes)


def quantised(data: Any, dtype: str) -> tuple[Any, Any]:
    """An array of float32 in a type of weights, and that type: float16 where rows do not divide into blocks."""
    from gguf import GGMLQuantizationType, QuantError, quantize

    kind = GGMLQuantizationType[dtype.upper()] if data.ndim > 1 else GGMLQuantizationType.F32
    try:
        return quantize(data, kind), kind
    except (QuantError, ValueError):  # rows that are no multiple of a block
        return quantize(data, GGMLQuantizationType.F16), GGMLQuantizationType.F16


def file_type(dtype: str) -> Any:
    """What a GGUF file says of its type of weights."""
    from gguf import LlamaFileType

    return LlamaFileType["ALL_F32" if dtype == "f32" else f"MOSTLY_{dtype.upper()}"]
