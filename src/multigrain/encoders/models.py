"""Models as commands name them: folders, hub ids, pooling variants, served models, BM25; and their encoders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sentence_transformers import SentenceTransformer

from multigrain.config.poolings import KEEP, POOLINGS, check_pooling
from multigrain.encoders.adapted import is_adapted, load_adapted
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder, encoding_facts
from multigrain.encoders.facts import BM25, EncodingFacts
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.served import SERVED, ServedEncoder, served_name
from multigrain.errors import ConfigError, EvaluationError
from multigrain.model.encoder import build_encoder
from multigrain.model.loading import is_raw
from multigrain.model.prompts import set_prompts

_NAMED: Final = re.compile(r"(?P<name>[\w.-]+)=(?P<rest>.+)", re.DOTALL)
_NAMED_PROMPT: Final = re.compile(r"(?P<name>[\w./@:-]+)=")
_SERVED_BATCHES: Final = 8
_LOCAL_CHUNK: Final = 2_048


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as a command names it.

    Attributes:
        name: what tables call it.
        reference: `bm25`, a folder, a hub id, `package:NAME`, `auto`, or a served model (`served.SERVED`).
        pooling: keep (its own), or the pooling that replaces it.
        query_prompt: put before every query; None for the model's own prompt, if it has one.
        document_prompt: put before every document; None as above.
    """

    name: str
    reference: str
    pooling: str = KEEP
    query_prompt: str | None = None
    document_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How models are loaded and texts encoded.

    Attributes:
        batch_size: texts encoded at once.
        cache: a folder that keeps embeddings between commands; None keeps them for this one only.
        device: where models run; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with models.
        scores: a folder that keeps scores, so that an interrupted call goes on; None keeps none.
        shards: a folder for the vectors of corpora that are too large for memory; None: a temporary one.
    """

    batch_size: int = 64
    cache: Path | None = None
    device: str | None = None
    trust_remote_code: bool = False
    scores: Path | None = None
    shards: Path | None = None


def parse_model(text: str) -> ModelSpec:
    """Understand `[NAME=]REFERENCE[@POOLING]`, e.g. `tuned=runs/mine/model`, `auto@cls`, `openai:NAME` or `bm25`.

    Raises:
        EvaluationError: an unknown pooling, or one for BM25 or a served model.
    """
    named = _NAMED.fullmatch(text)
    name, rest = (named["name"], named["rest"]) if named else (None, text)
    if rest.startswith(SERVED):
        model, _ = served_name(rest)
        last = model.rpartition("@")[2]
        if not model or last == KEEP or last in POOLINGS.names():
            raise EvaluationError(
                f"model {text!r}: expected {SERVED}MODEL or {SERVED}MODEL@http://HOST/v1, without a pooling"
            )
        return ModelSpec(name or model, rest)
    reference, at, pooling = rest.rpartition("@")
    if not at or "/" in pooling:  # an @ inside a path belongs to the path
        return ModelSpec(name or rest.rstrip("/"), rest)
    try:
        check_pooling(pooling)
    except ConfigError as error:
        raise EvaluationError(f"model {text!r}: {error}") from None
    if reference == BM25 and pooling != KEEP:
        raise EvaluationError(f"model {text!r}: BM25 pools nothing; leave @{pooling} out")
    return ModelSpec(name or rest, reference, pooling)


def with_poolings(models: Sequence[ModelSpec], poolings: Sequence[str]) -> list[ModelSpec]:
    """Every model with each of some poolings; BM25 and served models, where nothing is pooled here, once."""
    return [
        variant
        for model in models
        for variant in (
            [model]
            if _pools_nothing(model) or not poolings
            else [replace(model, name=f"{model.name}@{pooling}", pooling=pooling) for pooling in poolings]
        )
    ]


def with_prompts(models: Sequence[ModelSpec], *, queries: Sequence[str], documents: Sequence[str]) -> list[ModelSpec]:
    """Models with prompts of the user's own; a prompt is `TEXT` for all models, or `MODEL=TEXT` for one.

    A model that takes part with several poolings is meant with all of them, unless its name says which.

    Raises:
        EvaluationError: a text looks like a prompt for one model, and there is no such model.
    """
    names = {name for model in models for name in (model.name, _without_pooling(model))}
    for text in (*queries, *documents):
        named = _NAMED_PROMPT.match(text)
        if named is not None and named["name"] not in names:
            raise EvaluationError(
                f"prompt {text!r}: no model is called {named['name']!r}; there are {', '.join(sorted(names))}. "
                "To put this very text before the texts of a model: MODEL=TEXT"
            )

    def prompt(model: ModelSpec, texts: Sequence[str]) -> str | None:
        split = [(text.partition("=")[0], text) for text in texts]
        for name in (model.name, _without_pooling(model)):
            for meant, text in split:
                if meant == name:
                    return text.partition("=")[2]
        return next((text for meant, text in split if meant not in names), None)

    return [
        replace(model, query_prompt=prompt(model, queries), document_prompt=prompt(model, documents))
        for model in models
    ]


def load_model(spec: ModelSpec, encoding: Encoding) -> SentenceTransformer:
    """Load a model with its pooling and prompts.

    Raises:
        ModelError: it cannot be loaded, or needs remote code.
        MissingExtraError: its package is not installed.
    """
    if is_adapted(spec.reference):
        if spec.pooling != KEEP:
            raise EvaluationError(f"model {spec.reference}: its base is behind an endpoint, which pools; leave @ out")
        if spec.query_prompt is not None or spec.document_prompt is not None:
            raise EvaluationError(
                f"model {spec.reference}: its adapter was trained behind prompts of its own; leave other prompts out"
            )
        return load_adapted(spec.reference, batch_size=encoding.batch_size)
    model = build_encoder(
        spec.reference,
        pooling=spec.pooling,
        device=encoding.device,
        trust_remote_code=encoding.trust_remote_code,
    )
    set_prompts(model, query=spec.query_prompt, document=spec.document_prompt)
    return model


@contextmanager
def open_encoder(spec: ModelSpec, encoding: Encoding) -> Iterator[tuple[CachedEncoder, SentenceTransformer | None]]:
    """A model's encoder behind a cache, and the model where it runs here.

    Raises:
        ModelError: it cannot be loaded, or needs remote code.
        MissingExtraError: its package is not installed.
        ConfigError: a served model's address cannot be, or has no key.
    """
    model: SentenceTransformer | None = None
    encoder: Encoder
    if spec.reference.startswith(SERVED):
        encoder = ServedEncoder(
            spec.reference,
            batch_size=encoding.batch_size,
            query_prompt=spec.query_prompt or "",
            document_prompt=spec.document_prompt or "",
        )
        # What was paid for is kept soon.
        chunk = _SERVED_BATCHES * encoding.batch_size
    else:
        model = load_model(spec, encoding)
        encoder, chunk = SentenceTransformerEncoder(model, batch_size=encoding.batch_size), _LOCAL_CHUNK
    with closing(CachedEncoder(encoder, encoder.fingerprint, encoding.cache, chunk=chunk)) as cached:
        yield cached, model


def facts_of(spec: ModelSpec, model: SentenceTransformer | None) -> EncodingFacts:
    """What decides a model's figures besides its weights.

    Args:
        spec: how it was named.
        model: the model; None where it runs elsewhere.
    """
    if model is None:
        return EncodingFacts(query_prompt=spec.query_prompt or "", document_prompt=spec.document_prompt or "")
    return encoding_facts(model, guessed=spec.pooling == KEEP and is_raw(spec.reference))


def _without_pooling(model: ModelSpec) -> str:
    return model.name.removesuffix(f"@{model.pooling}")


def _pools_nothing(model: ModelSpec) -> bool:
    return model.reference == BM25 or model.reference.startswith(SERVED)
