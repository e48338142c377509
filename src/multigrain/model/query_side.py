"""Models whose queries alone are tuned: documents keep the base's vectors, and no corpus is embedded again.

Such a model is a sentence-transformers Router: its document route holds the base as it is, its query route what is
tuned. Both routes are ordinary modules, so that the folder loads wherever sentence-transformers is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
from sentence_transformers.util import batch_to_device
from torch import nn

from multigrain.errors import ModelError
from multigrain.model.query_adapter import QueryAdapter
from multigrain.model.routes import has_routes
from multigrain.model.tuning import dropout_set_to

QUERY = "query"
DOCUMENT = "document"


def with_base_documents(tuned: SentenceTransformer, base: SentenceTransformer) -> SentenceTransformer:
    """One model that embeds queries by one model and documents by another, which is frozen.

    A text that is neither takes the documents' route, as `encode` gave it before.

    Args:
        tuned: embeds queries; its modules are taken, not copied. Its prompts go before texts.
        base: embeds documents; its modules are taken and frozen.

    Raises:
        ModelError: one of them has routes already.
    """
    if has_routes(tuned) or has_routes(base):
        raise ModelError(
            "side: query needs a base that embeds queries and documents by one model; this one has a Router"
        )
    base.requires_grad_(False)
    router = Router.for_query_document(list(tuned.children()), list(base.children()))  # type: ignore[arg-type]
    return SentenceTransformer(
        modules=[router],
        device=str(tuned.device),
        prompts=prompts_of(tuned),
        default_prompt_name=tuned.default_prompt_name,
        similarity_fn_name=tuned.similarity_fn_name,
        trust_remote_code=bool(tuned.trust_remote_code),
    )


def with_query_adapter(base: SentenceTransformer, adapter: QueryAdapter) -> SentenceTransformer:
    """One model that embeds documents as a base does, and queries so too, moved by an adapter.

    The base is in both routes, once in memory and once on the disk. All modules are sentence-transformers' own.

    Args:
        base: its modules are taken, not copied.
        adapter: as it was trained behind the base's vectors.

    Raises:
        ModelError: see `require_unit_queries`, or the base has routes already.
    """
    if has_routes(base):
        raise ModelError(
            "query_adapter needs a base that embeds queries and documents by one model; this one has a Router"
        )
    require_unit_queries(base)
    shared = list(base.children())
    unit = [] if isinstance(shared[-1], Normalize) else [Normalize()]
    queries = [*shared, *unit, *adapter.dense(), Normalize()]
    return SentenceTransformer(
        modules=[Router.for_query_document(queries, shared)],  # type: ignore[arg-type]
        device=str(base.device),
        prompts=prompts_of(base),
        default_prompt_name=base.default_prompt_name,
        similarity_fn_name=base.similarity_fn_name,
        trust_remote_code=bool(base.trust_remote_code),
    )


def require_unit_queries(base: SentenceTransformer) -> None:
    """See that a query's vector may have length 1, as the folder of an adapted model gives it.

    Raises:
        ModelError: the model compares vectors of any length by their dot product.
    """
    if base.similarity_fn_name != "cosine" and not isinstance(list(base.children())[-1], Normalize):
        raise ModelError(
            f"query_adapter needs vectors of length 1, or cosine; this one compares by {base.similarity_fn_name}, and "
            "its vectors have any length"
        )


def document_side(model: SentenceTransformer) -> SentenceTransformer:
    """What embeds a model's documents, as a model by itself; its modules are shared, not copied.

    Raises:
        ModelError: the model has no routes.
    """
    route = _route(model, DOCUMENT)
    if route is None:
        raise ModelError("it has no route of its own for documents")
    return SentenceTransformer(
        modules=list(route.children()),
        device=str(model.device),
        prompts=prompts_of(model),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )


@contextmanager
def frozen_documents(model: SentenceTransformer) -> Iterator[None]:
    """Have a frozen document route give the vectors that it gives in use while the rest is tuned: no dropout in it."""
    route = _route(model, DOCUMENT)
    frozen = route is not None and not any(parameter.requires_grad for parameter in route.parameters())
    with dropout_set_to(route if frozen else nn.Identity(), 0.0):
        yield


@contextmanager
def idle_weights_frozen(model: SentenceTransformer) -> Iterator[None]:
    """Have no weight of the query route wait for a gradient that never comes, e.g. those of BERT's pooler.

    Several processes add gradients up, and each weight that is to learn has to get one: DistributedDataParallel finds
    unused weights by the last text of a row alone, which is a document.
    """
    route = _route(model, QUERY)
    if route is None:
        yield
        return
    features: dict[str, Any] = batch_to_device(route[0].preprocess(["one", "another one"]), model.device)
    for module in route.children():
        features = module(features)
    learning = [weight for weight in route.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(features["sentence_embedding"].float().sum(), learning, allow_unused=True)
    idle = [weight for weight, gradient in zip(learning, gradients, strict=True) if gradient is None]
    for weight in idle:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in idle:
            weight.requires_grad_(True)


def prompts_of(model: SentenceTransformer) -> dict[str, str]:
    """A model's prompts, as another model of the same modules is given them."""
    return {name: text or "" for name, text in model.prompts.items()}


def _route(model: SentenceTransformer, role: str) -> Any:
    first = model[0]
    return first.sub_modules[role] if isinstance(first, Router) and role in first.sub_modules else None
