"""Build and load encoders: sentence-transformers models whose pooling this package may have replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Router, Transformer
from sentence_transformers.util import get_device_name

from multigrain.config import (
    AttentionImplementation,
    AttentionName,
    LoraConfig,
    PromptsConfig,
    QuantizeName,
    TrainingConfig,
)
from multigrain.config.poolings import KEEP
from multigrain.errors import ModelError
from multigrain.model.adapters import add_adapters, has_adapters, merge_adapters, merged_over_unquantized, quantization
from multigrain.model.attention.direction import is_decoder, set_attention
from multigrain.model.attention.implementation import require_implementation
from multigrain.model.end_token import append_end_token
from multigrain.model.loading import is_raw, load_any, require_positions
from multigrain.model.padding import pad_by_something
from multigrain.model.pooling import AtaOptions
from multigrain.model.precision import supports_native_bf16
from multigrain.model.prompts import set_prompts
from multigrain.model.query_side import with_base_documents
from multigrain.model.replacing import pooling_name, replace_pooling
from multigrain.model.routes import has_routes, model_parts, text_transformers


def build_encoder(
    reference: str,
    *,
    pooling: str = KEEP,
    max_seq_length: int | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    ata: AtaOptions | None = None,
    attention: AttentionName = "keep",
    prompts: PromptsConfig | None = None,
    lora: LoraConfig | None = None,
    quantize: QuantizeName = "none",
    seed: int = 0,
    computed_on: str | None = None,
    attn_implementation: AttentionImplementation | None = None,
    append_eos: bool | None = None,
) -> SentenceTransformer:
    """Load a base and give it the pooling asked for; what follows the pooling (normalising, dense) stays.

    A transformers checkpoint without sentence-transformers' modules pools by its architecture unless told otherwise:
    last token for causal decoders, mean for everything else.

    Args:
        reference: a folder, a hub id, `package:NAME` or `auto`.
        pooling: keep (the base's own), or the name of another (`config.poolings`).
        max_seq_length: tokens of a text that are read; None for the base's own.
        trust_remote_code: run code that comes with the base.
        device: where to put it; None lets sentence-transformers choose.
        ata: options of `ata` and `diagonal` pooling; None for the defaults.
        attention: which way a decoder attends.
        prompts: what goes before texts; None for the base's own.
        lora: adapters to put in; None for none.
        quantize: hold the base in fewer bits.
        seed: of the adapters' first values.
        computed_on: the device that the model will be moved to, where that is not `device`: it decides the precision.
        attn_implementation: what computes attention; None for transformers' choice.
        append_eos: end every text with the tokenizer's end token; None where such a checkpoint is pooled by its last
            token.

    Raises:
        ModelError: the base cannot be loaded, reads fewer tokens, pools nothing, or its architecture cannot do
            what was asked for.
        MissingExtraError: `package:NAME`, or what adapters, quantizing or attention need, is not installed.
    """
    model = load_any(
        reference,
        device=device,
        trust_remote_code=trust_remote_code,
        quantization=quantization(quantize),
        computed_on=computed_on,
        attn_implementation=attn_implementation,
    )
    if max_seq_length is not None:
        for transformer in text_transformers(model):  # static embeddings read texts of any length
            require_positions(transformer.model.config, max_seq_length, reference)
            transformer.max_seq_length = max_seq_length
    try:
        _pad_by_something(model)
        set_attention(model, attention)
        raw = is_raw(reference)
        if raw:
            replace_pooling(model, _default_pooling(model), AtaOptions())
        replace_pooling(model, pooling, ata or AtaOptions())
        reads_last = append_eos is None and raw and pooling_name(model) == "last"
        if append_eos or (reads_last and getattr(model.tokenizer, "eos_token_id", None) is not None):
            append_end_token(model)
        require_implementation(model, attn_implementation)
        if lora is not None:
            add_adapters(model, lora, seed=seed)
    except ModelError as error:
        raise ModelError(f"{reference}: {error}") from None
    if prompts is not None:
        asked = prompts.resolved({})
        set_prompts(model, query=asked.get("query"), document=asked.get("document"))
    return model


def build_candidate(settings: TrainingConfig, *, seed: int = 0, device: str | None = None) -> SentenceTransformer:
    """The base model as a candidate is trained from it.

    Weights that are tuned as a whole are float32; a base under adapters stays in the precision it was published in,
    where the device computes bf16 natively.

    Args:
        settings: the candidate's (`TrainingConfig.resolve`).
        seed: of the adapters' first values, where there are adapters.
        device: where to put it; None lets sentence-transformers choose. A model that will be sharded waits on the CPU.

    Raises:
        ModelError: as `build_encoder`.
        MissingExtraError: as `build_encoder`.
    """
    computed_on = device or get_device_name()
    model = build_encoder(
        settings.base_model,
        pooling=settings.pooling,
        max_seq_length=settings.length_in_use,
        trust_remote_code=settings.trust_remote_code,
        device="cpu" if settings.fsdp else device,
        ata=AtaOptions(**settings.ata.model_dump()),
        attention=settings.attention,
        prompts=settings.prompts,
        lora=settings.lora,
        quantize=settings.quantize,
        seed=seed,
        computed_on=computed_on,
        attn_implementation=settings.attn_implementation,
        append_eos=settings.append_eos,
    )
    if settings.gradient_checkpointing:
        _recompute_activations(model)
    if settings.lora is None:
        merge_adapters(model)  # a base that is adapters over another is tuned as the model that they make together
        model = model.float()
    elif model.dtype == torch.float16 and settings.quantize == "none" and supports_native_bf16(computed_on):
        for name, parameter in model.named_parameters():
            if "lora_" not in name:
                parameter.data = parameter.data.bfloat16()
    return model if settings.side == "both" else _beside_its_base(model, settings, device=device)


def _beside_its_base(
    tuned: SentenceTransformer, settings: TrainingConfig, *, device: str | None
) -> SentenceTransformer:
    """A model to be tuned, with the base as it is for documents: its own pooling and attention, no adapters."""
    base = build_encoder(
        settings.base_model,
        max_seq_length=settings.length_in_use,
        trust_remote_code=settings.trust_remote_code,
        device=device,
        prompts=settings.prompts,
        append_eos=settings.append_eos,
    )
    merge_adapters(base)
    try:
        return with_base_documents(tuned, base.float())
    except ModelError as error:
        raise ModelError(f"{settings.base_model}: {error}") from None


@contextmanager
def reading_at_most(model: SentenceTransformer, tokens: int | None) -> Iterator[None]:
    """Let a model read no more than some tokens of a text for a while; one that reads less reads as before.

    Args:
        model: the model.
        tokens: the limit; None for the model's own.
    """
    longer = [
        transformer
        for transformer in text_transformers(model)
        if tokens is not None and (transformer.max_seq_length is None or transformer.max_seq_length > tokens)
    ]
    own = [transformer.max_seq_length for transformer in longer]
    for transformer in longer:
        transformer.max_seq_length = tokens
    try:
        yield
    finally:
        for transformer, limit in zip(longer, own, strict=True):
            transformer.max_seq_length = limit


def load(
    path: str,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: AttentionImplementation | None = None,
) -> SentenceTransformer:
    """Load a model as it was saved; one with ATA pooling needs no flag here.

    Args:
        path: a folder, or anything else `build_encoder` loads.
        device: where to put it; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with the model (never needed for this package's own modules).
        attn_implementation: what computes attention: eager, sdpa or flash_attention_2, for which weights in float32
            become bfloat16. None for transformers' choice.

    Raises:
        ModelError: there is no usable model at `path`, or attention cannot be computed as asked.
        MissingExtraError: FlashAttention-2 is not installed.
    """
    # A bare checkpoint says nothing of pooling, and is everywhere the encoder that `build_encoder` makes of it.
    read = build_encoder if is_raw(path := str(path)) else load_any
    model = read(path, device=device, trust_remote_code=trust_remote_code, attn_implementation=attn_implementation)
    too_wide = attn_implementation == "flash_attention_2" and model.dtype == torch.float32
    return model.bfloat16() if too_wide else model


def weights_fingerprint(model: SentenceTransformer) -> str:
    """A SHA-256 over everything that decides a model's vectors: weights, modules' settings, length limit, tokenizer.

    Equal fingerprints may share cached embeddings of the same precision.
    """
    digest = hashlib.sha256()
    for name, module in model_parts(model):
        settings = module.get_config_dict() if isinstance(module, Module) else {}
        if isinstance(module, Router):  # its keys are pairs
            settings = {"route": name, **settings, "route_mappings": sorted(map(str, module.route_mappings.items()))}
        digest.update(json.dumps([type(module).__name__, settings], sort_keys=True, default=str).encode())
    digest.update(json.dumps([model.max_seq_length, _vocabulary(model)], sort_keys=True).encode())
    for transformer in text_transformers(model)[1:]:
        digest.update(json.dumps([transformer.max_seq_length, _vocabulary(transformer)], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _vocabulary(model: SentenceTransformer | Transformer) -> dict[str, Any]:
    """The tokenizer's settings, without the padding and truncation that each call sets anew."""
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if backend is None:
        return {}
    settings: dict[str, Any] = json.loads(backend.to_str())
    return {key: value for key, value in settings.items() if key not in ("padding", "truncation")}


def _recompute_activations(model: SentenceTransformer) -> None:
    """Trade time for memory in training. Not reentrant: weights of ATA pooling may want gradients."""
    for transformer in text_transformers(model):  # static embeddings keep next to nothing
        backbone: Any = transformer.model
        if hasattr(backbone, "activation_checkpointing_enable"):  # its name in newer versions of transformers
            backbone.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _default_pooling(model: SentenceTransformer) -> str:
    """How a checkpoint that says nothing of pooling pools: the last token has seen all of a causal decoder's text."""
    config = model.config
    causal = config is not None and is_decoder(config) and getattr(config, "is_causal", True)
    return "last" if causal else "mean"


def _pad_by_something(model: SentenceTransformer) -> None:
    for transformer in text_transformers(model):
        pad_by_something(transformer)


def describe_encoder(model: SentenceTransformer, reference: str) -> str:
    """A model in a line: architecture, size, attention, pooling and where it comes from, adapters, precision.

    Args:
        model: the model.
        reference: what it was built from.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    tuned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    first = model[0]
    if has_routes(model) and tuned < total:
        return (
            f"a Router, {_count(total)} weights, of which {_count(tuned)} are tuned: documents keep the base's vectors"
        )
    if not isinstance(first, Transformer):
        return f"{type(first).__name__}, {_count(total)} weights"
    config = first.model.config
    causal = is_decoder(config) and getattr(config, "is_causal", True)
    kind = "decoder" if is_decoder(config) else "encoder"
    pooling = f"{pooling_name(model)} pooling"
    if is_raw(reference):
        pooling += (
            " (the checkpoint names none: last for causal decoders, mean for others, unless training.pooling says)"
        )
    parts = [
        f"{type(first.model).__name__}, {'a causal' if causal else 'a bidirectional'} {kind}",
        f"{_count(total)} weights in {str(model.dtype).removeprefix('torch.')}",
        pooling,
        f"{model.max_seq_length} tokens",
    ]
    if has_adapters(model):
        parts.append(f"adapters of {_count(tuned)} weights are tuned")
    return ", ".join(parts)


def _count(number: int) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)


def save_candidate(model: SentenceTransformer, folder: Path, settings: TrainingConfig) -> None:
    """Write a tuned candidate, its adapters merged or apart as its settings say.

    Args:
        model: the tuned model; adapters that are merged are gone from it afterwards.
        folder: where to; an ordinary sentence-transformers folder without a model card.
        settings: the candidate's.
    """
    if has_adapters(model) and settings.adapters == "merged":
        if settings.quantize == "none":
            merge_adapters(model)
        else:
            model = merged_over_unquantized(model, settings)
    model.save_pretrained(str(folder), create_model_card=False)
