"""Encoders that are loaded in this process: sentence-transformers models, with their prompts and precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedConfig

from multigrain.encoders.batches import TOKENS, readable_parts, token_batches
from multigrain.encoders.facts import EncodingFacts
from multigrain.encoders.protocol import Floats, Role, RoleEncoder, unit_length
from multigrain.encoders.vectors import VectorCheck
from multigrain.errors import EvaluationError
from multigrain.model.encoder import weights_fingerprint
from multigrain.model.precision import mixed_precision
from multigrain.model.prompts import other_prompts, role_prompt
from multigrain.model.replacing import pooling_name
from multigrain.model.routes import model_parts, text_transformers

_NO_LIMIT: Final = 1_000_000  # tokenizers without a limit say so with a huge number
_SAMPLED: Final = 1_000
_SPECIAL: Final = 8  # tokens that a tokenizer may add
# Settings that say where a model came from or what wrote it, not what it computes.
_PROVENANCE: Final = frozenset({"transformers_version", "_name_or_path", "name_or_path"})


class SentenceTransformerEncoder(RoleEncoder):
    """A loaded sentence-transformers model, with its own query and document prompts.

    Args:
        model: the model; it is used where it lies (device, precision).
        batch_size: most texts encoded at once.
        bf16: compute in bf16 autocast (see `supports_native_bf16`).
        cosine: give every vector length 1; None for what the model compares by.
        guessed: whether the model's pooling was chosen by its architecture.

    Raises:
        EvaluationError: the model compares by a distance, which is no dot product.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        batch_size: int = 64,
        bf16: bool = False,
        cosine: bool | None = None,
        guessed: bool = False,
    ) -> None:
        if cosine is None and model.similarity_fn_name not in ("cosine", "dot"):
            raise EvaluationError(
                f"the model compares by {model.similarity_fn_name}; retrieval is scored by cosine or dot product: "
                "set `similarity_fn_name` to one of them and save the model again"
            )
        self.model = model
        self.bf16 = bf16
        self._batch_size = batch_size
        self.cosine = model.similarity_fn_name == "cosine" if cosine is None else cosine
        self._check = VectorCheck("the model")
        self._guessed = guessed

    @property
    def facts(self) -> EncodingFacts:
        """What decides the model's figures besides its weights."""
        return encoding_facts(self.model, guessed=self._guessed)

    @cached_property
    def fingerprint(self) -> str:
        """The model's, as it was when this was first asked for."""
        return model_fingerprint(self.model)

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        vectors = encode(
            self.model, texts, role=role, batch_size=self._batch_size, bf16=self.bf16, normalise=self.cosine
        )
        return self._check(vectors, texts, role)


def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    role: Role | None = None,
    batch_size: int = 64,
    bf16: bool = False,
    normalise: bool = True,
    prompt: str | None = None,
) -> Floats:
    """Embed texts.

    Args:
        model: the encoder.
        texts: what to embed.
        role: whose prompt goes before every text, and whose route of an asymmetric model is taken: a query's, a
            document's, or None for the default of both.
        batch_size: most texts a forward pass; on a CPU there may be fewer (`batches.TOKENS`).
        bf16: compute in bf16 autocast; False leaves the precision to whoever calls.
        normalise: give every vector length 1.
        prompt: put this before every text instead; "" for nothing.

    Returns:
        (texts, dimension) float32, in the order of `texts`.
    """
    if not texts:
        return np.zeros((0, model.get_embedding_dimension() or 0), dtype=np.float32)
    embed: Any = model.encode if role is None else getattr(model, f"encode_{role}")
    if prompt is None and role is not None:
        prompt = role_prompt(model, role)
    with mixed_precision(model.device, bf16=True) if bf16 else nullcontext():
        vectors = _in_batches(
            model,
            partial(embed, prompt=prompt, show_progress_bar=False, convert_to_numpy=True),
            list(texts),
            batch_size=batch_size,
        )
    return unit_length(vectors) if normalise else np.asarray(vectors, dtype=np.float32)


def encoding_facts(model: SentenceTransformer, *, guessed: bool = False) -> EncodingFacts:
    """What decides a loaded model's figures besides its weights.

    Args:
        model: the model.
        guessed: whether its pooling was chosen by its architecture (`is_raw`, and nobody named another).
    """
    limit = model.max_seq_length
    return EncodingFacts(
        pooling=pooling_name(model),
        pooling_guessed=guessed,
        max_tokens=int(limit) if limit is not None and limit < _NO_LIMIT else None,
        dtype=str(model.dtype).removeprefix("torch."),
        query_prompt=role_prompt(model, "query"),
        document_prompt=role_prompt(model, "document"),
        other_prompts=", ".join(other_prompts(model)),
    )


def share_cut(model: SentenceTransformer, texts: Sequence[str]) -> float:
    """The share of documents that are longer than the model reads, by a sample spread over them."""
    transformers, sample = text_transformers(model), texts[:: max(1, len(texts) // _SAMPLED)]
    limit = model.max_seq_length
    if not transformers or limit is None or not sample:
        return 0.0
    # A token has a byte at least: most texts need not be tokenised.
    prompt = role_prompt(model, "document")
    long = [prompt + text for text in sample if len((prompt + text).encode()) > limit - _SPECIAL]
    tokenizer: Any = transformers[-1].tokenizer
    tokens = tokenizer(long, truncation=False, verbose=False)["input_ids"] if long else []
    return sum(len(ids) > limit for ids in tokens) / len(sample)


def _in_batches(
    model: SentenceTransformer, embed: Callable[..., Any], texts: list[str], *, batch_size: int
) -> NDArray[Any]:
    """Vectors in the order of the texts: on a CPU from batches of so many tokens, elsewhere of so many texts."""
    parts = readable_parts(model, texts) if model.device.type == "cpu" else None
    if parts is None:
        return np.asarray(embed(texts, batch_size=batch_size))
    read, lengths = parts
    batches = list(token_batches(lengths, TOKENS, texts=batch_size))
    embedded = [embed([read[position] for position in batch], batch_size=len(batch)) for batch in batches]
    places = np.argsort(np.concatenate(batches))
    return np.asarray(np.concatenate(embedded)[places])


def model_fingerprint(model: SentenceTransformer) -> str:
    """A SHA-256 over everything that decides how a model answers, whatever its name or folder.

    Besides the weights, modules and tokenizer (`weights_fingerprint`) that is the backbone's config (attention may
    be causal or not), the prompts, the similarity and how many numbers of a vector are kept. Two folders that differ
    only in weights differ here, and a copy of a folder does not.
    """
    settings = {
        "weights": weights_fingerprint(model),
        "backbones": [_backbone_settings(module) for _, module in model_parts(model)],
        "prompts": model.prompts,
        "default_prompt": model.default_prompt_name,
        "similarity": str(model.similarity_fn_name),
        **({} if model.truncate_dim is None else {"truncate_dim": model.truncate_dim}),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _backbone_settings(module: torch.nn.Module) -> dict[str, Any]:
    config = getattr(getattr(module, "auto_model", None), "config", None)
    if not isinstance(config, PreTrainedConfig):
        return {}
    return {key: value for key, value in config.to_dict().items() if key not in _PROVENANCE}
