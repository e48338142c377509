"""Asymmetric models: a Router that embeds queries and documents by different modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from torch import nn

from multigrain.display.text import first_line
from multigrain.errors import ModelError


def has_routes(model: SentenceTransformer) -> bool:
    """Whether a model chooses its modules by what a text is."""
    return any(isinstance(module, Router) for module in model.children())


def model_parts(model: SentenceTransformer) -> Iterator[tuple[str, nn.Module]]:
    """A model's modules, a Router's own ones in its place, each under a name that says where it stands."""
    for name, module in model.named_children():
        yield name, module
        if isinstance(module, Router):
            for route, modules in module.sub_modules.items():
                yield from ((f"{name}.{route}.{number}", part) for number, part in modules.named_children())


def text_transformers(model: SentenceTransformer) -> list[Transformer]:
    """The transformers that read texts: the first module, or the first of each route; none in static models."""
    first = model[0]
    routes: list[Any] = list(first.sub_modules.values()) if isinstance(first, Router) else [model]
    modules = (route[0] for route in routes)
    return list(dict.fromkeys(module for module in modules if isinstance(module, Transformer)))


def require_routes(model: SentenceTransformer) -> None:
    """See that a Router knows where queries and documents go, and that their vectors can be compared.

    Raises:
        ModelError: it has no route for one of them, or vectors of different lengths come out.
    """
    if not has_routes(model):
        return
    widths: dict[str, int] = {}
    embeds: dict[str, Any] = {"query": model.encode_query, "document": model.encode_document}
    for role, embed in embeds.items():
        try:
            widths[role] = len(embed("a", show_progress_bar=False))
        except (ValueError, KeyError) as error:
            raise ModelError(f"its Router embeds no text as a {role}: {first_line(error)}") from None
    if len(set(widths.values())) > 1:
        raise ModelError(
            f"its routes give vectors of different lengths (query {widths['query']}, document {widths['document']}), "
            "which cannot be compared: add a Dense module behind one of them"
        )
