"""Build and save rerankers: sentence-transformers cross-encoders with one score a pair."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from tokenizers import processors
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig, AutoTokenizer

from multigrain.config import TrainingConfig
from multigrain.config.paths import STATIC_PREFIX
from multigrain.errors import ModelError
from multigrain.model.adapters import add_adapters, has_adapters, merge_adapters
from multigrain.model.allocator import keep_freed_memory
from multigrain.model.attention.direction import is_decoder
from multigrain.model.attention.implementation import check_implementation
from multigrain.model.loading import (
    adapted_base,
    is_asymmetric,
    locate,
    read_plain_text,
    require_positions,
    transformer_folder,
    unloadable,
)
from multigrain.model.padding import pad_by_something

_LANGUAGE_MODEL: Final = "ForCausalLM"
_ROLES: Final = ("query", "document")
"""The roles that a pair's texts have in the chat template of a language model that answers yes or no."""


def build_reranker(settings: TrainingConfig, *, seed: int = 0, device: str | None = None) -> CrossEncoder:
    """A cross-encoder as a candidate is trained from it: a transformer under a fresh head, or a reranker with its own.

    Of an embedding model the transformer is taken alone: its pooling, prompts and further modules are left out. A
    decoder's head reads the last token of a pair. A language model whose chat template has places for a query and a
    document (Qwen3-Reranker) keeps its form: the score is the log-odds of yes over no.

    Args:
        settings: the candidate's (`TrainingConfig.resolve`).
        seed: of the first values of a fresh head, and of adapters.
        device: where to put it; None lets sentence-transformers choose.

    Raises:
        ModelError: the base cannot be loaded, reads fewer tokens, or cannot be given a head.
        MissingExtraError: `package:NAME`, or what adapters or attention need, is not installed.
    """
    reference, trusted = settings.base_model, settings.trust_remote_code
    source = check_reranker_base(reference, max_seq_length=settings.max_seq_length, trust_remote_code=trusted)
    check_implementation(settings.attn_implementation, device=device)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _load(source, settings, device)
        _read_pairs(model)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise unloadable(reference, error) from error
    except ModelError as error:
        raise ModelError(f"{reference}: {error}") from None
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.float()
    if settings.lora is not None:
        add_adapters(model, settings.lora, seed=seed)
    return model


def _load(source: str, settings: TrainingConfig, device: str | None) -> CrossEncoder:
    keep_freed_memory()
    trusted, tokens = settings.trust_remote_code, settings.max_seq_length
    attention = settings.attn_implementation
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    config = AutoConfig.from_pretrained(source, trust_remote_code=trusted)
    architecture = (config.architectures or [""])[0]
    model: CrossEncoder
    if architecture.endswith(_LANGUAGE_MODEL) and not _answers_pairs(source, trust_remote_code=trusted):
        # sentence-transformers would take the log-odds of yes over no from any language model.
        transformer = Transformer(
            source,
            transformer_task="sequence-classification",
            model_kwargs={**options, "trust_remote_code": trusted},
            processor_kwargs={"trust_remote_code": trusted} | ({} if tokens is None else {"model_max_length": tokens}),
            config_kwargs={"num_labels": 1, "trust_remote_code": trusted},
        )
        model = CrossEncoder(modules=[transformer], device=device, trust_remote_code=trusted)
        return model
    model = CrossEncoder(
        source,
        num_labels=1,
        max_length=tokens,
        device=device,
        trust_remote_code=trusted,
        model_kwargs=options,
    )
    return model


def _answers_pairs(source: str, *, trust_remote_code: bool) -> bool:
    """Whether a language model was made to answer pairs with yes or no."""
    modules = Path(source) / "modules.json"
    if modules.is_file() and "LogitScore" in modules.read_text(encoding="utf-8"):
        return True
    tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    return _has_roles(tokenizer)


def _has_roles(tokenizer: Any) -> bool:
    template = json.dumps(getattr(tokenizer, "chat_template", None) or "")
    return all(role in template for role in _ROLES)


def _read_pairs(model: CrossEncoder) -> None:
    """Have a decoder under a head read pairs as they are, and the head their last token, whatever fills the batch."""
    transformer = model[0]
    backbone: Any = model.transformers_model
    if not isinstance(transformer, Transformer) or not is_decoder(backbone.config):
        return
    pad_by_something(transformer)
    tokenizer: Any = transformer.tokenizer
    if backbone.get_output_embeddings() is not None:  # a language model: read from the left, by its template
        return
    if not _has_roles(tokenizer):
        read_plain_text(model)
    # The head takes the last token that is not this one; checkpoints often name another, or none.
    backbone.config.pad_token_id = tokenizer.pad_token_id
    # On the left, filling would move the positions of decoders that count them.
    tokenizer.padding_side = "right"
    _part_pairs(tokenizer)


def _part_pairs(tokenizer: Any) -> None:
    """Put the end token between query and passage where a tokenizer, as Qwen's, would run them into one another."""
    end, sides = tokenizer.eos_token, tokenizer("a", "a").sequence_ids(0)
    if end is None or (0, 1) not in pairwise(sides):
        return
    alone = tokenizer("a")
    tokens, places = tokenizer.convert_ids_to_tokens(alone["input_ids"]), alone.sequence_ids(0)
    first, last = places.index(0), len(places) - places[::-1].index(0)
    before, behind = (" ".join(part) for part in (tokens[:first], tokens[last:]))
    special = {end, *tokens[:first], *tokens[last:]}
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {behind}".strip(),
        pair=f"{before} $A {end} $B:1 {behind}".strip(),
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in sorted(special)],
    )


def check_reranker_base(reference: str, *, max_seq_length: int | None = None, trust_remote_code: bool = False) -> str:
    """See that a model can be tuned into a reranker, by its config alone.

    Args:
        reference: a folder, a hub id, `package:NAME` or `auto`.
        max_seq_length: tokens of a pair that it shall read; None for its own limit.
        trust_remote_code: run code that comes with it.

    Returns:
        The folder or hub id of its transformer.

    Raises:
        ModelError: it is not there, reads fewer tokens, or cannot be given a head.
        MissingExtraError: `package:NAME` is not installed.
    """
    wrong = "a reranker is tuned from a transformer, or from an embedding model made of one"
    if reference.startswith(STATIC_PREFIX) or is_asymmetric(reference):
        raise ModelError(f"{reference}: {wrong}; this one has no single transformer")
    source = locate(reference)
    if adapted_base(Path(source)) is not None:
        raise ModelError(f"{reference}: holds adapters alone; merge them into their base first")
    folder = transformer_folder(Path(source))
    if folder is None:
        raise ModelError(f"{reference}: {wrong}; this one has no transformer")
    source = str(folder) if folder.is_dir() else source
    try:
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(reference, error) from None
    if not trust_remote_code and type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{reference}: transformers has no head that scores for {config.model_type}; take another base"
        )
    if max_seq_length is not None:
        require_positions(config, max_seq_length, reference)
    return source


def describe_reranker(model: CrossEncoder) -> str:
    """A reranker in a line: architecture, size, tokens of a pair."""
    total, tuned = (
        sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or whole)
        for whole in (True, False)
    )
    adapters = f", of which {tuned / 1e6:.3g} million are tuned (adapters and head)" if tuned < total else ""
    return (
        f"{type(model.transformers_model).__name__}, {total / 1e6:.3g} million weights{adapters}, "
        f"{model.max_seq_length} tokens"
    )


def save_reranker(model: CrossEncoder, folder: Path) -> None:
    """Write a tuned reranker as an ordinary sentence-transformers folder without a model card.

    Adapters are merged into the weights beside them, and gone from the model afterwards.
    """
    if has_adapters(model):
        merge_adapters(model)
    model.save_pretrained(str(folder), create_model_card=False)
