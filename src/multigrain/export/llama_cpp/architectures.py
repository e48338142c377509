"""Transformers' architectures as llama.cpp knows them: its name, the keys it reads, and how it holds weights.

Read in llama.cpp's own converter and graphs (conversion/, src/models/): names of keys and tensors are the package
`gguf`'s, and what each architecture computes is measured against the model after every export.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from multigrain.errors import ExportError
from multigrain.export.llama_cpp.positions import write_positions
from multigrain.model.attention.direction import is_bidirectional, is_decoder

# A GGUFWriter, and a transformers config: neither has types.
Writer = Any
Config = Any

_GEMMA_PATTERN: Final = 6


@dataclass(frozen=True, slots=True)
class Architecture:
    """How llama.cpp runs a transformers class.

    Attributes:
        name: its own name for it, which starts every key; also that of the package gguf's table of tensor names.
        write: writes the keys that this architecture has beside the common ones.
        change: a weight as llama.cpp holds it, given its name here, its value and the config.
        table_gelu: whether llama.cpp computes GELU otherwise than transformers, see `gelu.py`.
        feed_forward: in which weights the neurons of the feed-forward layers begin, and in which they end; empty
            where nothing is known of them.
        dense: whether it computes two Dense layers after the pooling, of no bias and no activation.
    """

    name: str
    write: Callable[[Writer, nn.Module], None]
    change: Callable[[str, Tensor, Config], Tensor] = lambda name, weight, config: weight
    table_gelu: bool = False
    feed_forward: tuple[str, ...] = ()
    dense: bool = False


def architecture_of(model: nn.Module) -> Architecture:
    """The row of a transformers model.

    Raises:
        ExportError: there is none, or llama.cpp computes something else with these settings.
    """
    kind = type(model).__name__
    if kind == "Gemma3TextModel" and is_bidirectional(model):
        kind = "Gemma3TextModel, both ways"
    if kind not in _TABLE:
        known = ", ".join(sorted({name.partition(",")[0] for name in _TABLE}))
        raise ExportError(f"GGUF: {kind} is not among the architectures written ({known}); --to onnx takes it")
    return _TABLE[kind]


def write_common(writer: Writer, config: Config, limit: int, terms: int) -> None:
    """Write the keys that every architecture has.

    Args:
        writer: a GGUFWriter.
        config: the transformer's.
        limit: tokens of a text that are read; llama.cpp refuses more.
        terms: neurons that each of the feed-forward layers' is written as.
    """
    # With a cache of keys and values it refuses a text that fills its context to the last token.
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(limit + is_decoder(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(terms * config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)


def _bert(writer: Writer, model: nn.Module) -> None:
    config: Config = model.config
    _require_activation(config.hidden_act, "gelu", "gelu_new", "gelu_pytorch_tanh")
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise ExportError(f"GGUF: {config.position_embedding_type!r} positions are not computed; --to onnx keeps them")
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_token_type_count(config.type_vocab_size)


def _modern_bert(writer: Writer, model: nn.Module) -> None:
    config: Config = model.config
    _require_activation(config.hidden_activation, "gelu")
    full = [number for number, kind in enumerate(config.layer_types) if kind == "full_attention"]
    every = full[1] - full[0] if len(full) > 1 else len(config.layer_types)
    if full != list(range(0, len(config.layer_types), every)):
        raise ExportError("GGUF: llama.cpp attends to all in every n-th layer, from the first; here others do")
    writer.add_layer_norm_eps(config.norm_eps)
    writer.add_causal_attention(False)
    writer.add_sliding_window(config.local_attention)
    writer.add_sliding_window_pattern(every)
    writer.add_rope_freq_base(_theta(config, "full_attention"))
    writer.add_rope_freq_base_swa(_theta(config, "sliding_attention"))
    writer.add_string("modern-bert.hidden_activation", config.hidden_activation)


def _decoder(writer: Writer, model: nn.Module) -> None:
    config: Config = model.config
    _require_activation(config.hidden_act, "silu")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ExportError("GGUF: llama.cpp has no sliding window in this architecture; --to onnx keeps it")
    write_positions(writer, model)
    _attention(writer, config)
    writer.add_causal_attention(not is_bidirectional(model))


def _gemma(writer: Writer, model: nn.Module) -> None:
    config: Config = model.config
    _require_activation(config.hidden_activation, "gelu_pytorch_tanh")
    pattern = [(number + 1) % _GEMMA_PATTERN == 0 for number in range(config.num_hidden_layers)]
    if pattern != [kind == "full_attention" for kind in config.layer_types]:
        raise ExportError(f"GGUF: llama.cpp attends to all in every {_GEMMA_PATTERN}th layer; here others do")
    if config.query_pre_attn_scalar != config.head_dim:
        raise ExportError("GGUF: llama.cpp scales queries by the heads' size; here query_pre_attn_scalar is another")
    both_ways = is_bidirectional(model)
    # transformers keeps half of the window where it looks both ways.
    writer.add_sliding_window(2 * (config.sliding_window - 1) if both_ways else config.sliding_window)
    writer.add_rope_freq_base(_theta(config, "full_attention"))
    writer.add_rope_freq_base_swa(_theta(config, "sliding_attention"))
    _attention(writer, config)
    writer.add_causal_attention(not both_ways)


def _attention(writer: Writer, config: Config) -> None:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _theta(config: Config, layers: str) -> float:
    parameters = config.rope_parameters[layers]
    if parameters.get("rope_type", "default") != "default":
        raise ExportError(f"GGUF: positions of type {parameters['rope_type']!r} are not written; --to onnx keeps them")
    return float(parameters["rope_theta"])


def _require_activation(found: str, *known: str) -> None:
    if found not in known:
        raise ExportError(f"GGUF: llama.cpp computes {known[0]} in this architecture, not {found}; --to onnx keeps it")


def _interleaved(name: str, weight: Tensor, config: Config) -> Tensor:
    """Queries and keys of Llama: llama.cpp turns neighbouring numbers, transformers the two halves of a head."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _shifted(name: str, weight: Tensor, config: Config) -> Tensor:
    """Gemma's norms multiply by one more than their weight."""
    return weight + 1 if name.endswith("norm.weight") else weight


_TABLE: Final = {
    "BertModel": Architecture(
        "bert", _bert, table_gelu=True, feed_forward=("intermediate.dense", r"layer\.\d+\.output\.dense")
    ),
    "ModernBertModel": Architecture("modern-bert", _modern_bert),
    "Qwen2Model": Architecture("qwen2", _decoder),
    "Qwen3Model": Architecture("qwen3", _decoder),
    "LlamaModel": Architecture("llama", _decoder, _interleaved),
    "MistralModel": Architecture("llama", _decoder, _interleaved),
    "Gemma3TextModel": Architecture("gemma3", _gemma, _shifted, table_gelu=True),
    "Gemma3TextModel, both ways": Architecture("gemma-embedding", _gemma, _shifted, table_gelu=True, dense=True),
}
