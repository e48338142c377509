"""The answers that strategies ask for."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, TypeAlias

from annotated_types import Len
from pydantic import BaseModel, StringConstraints, create_model

from multigrain.records import Level

Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text with something in it."""


class Passage(BaseModel):
    """One passage."""

    passage: Text


class Opening(BaseModel):
    """A query and the passage that answers it."""

    query: Text
    positive: Text


class Edit(BaseModel):
    """Words of a text, and what to put in their place."""

    original: Text
    replacement: Text


@cache
def graded_shape(levels: tuple[Level, ...], *, query: bool, positive: bool) -> type[BaseModel]:
    """An answer with a negative a level, the hardest first. Constrained decoders write fields in this order.

    Args:
        levels: which levels are written.
        query: whether the query is written too.
        positive: whether the positive is.
    """
    names = ["query"] * query + ["positive"] * positive
    names += [f"level_{int(level)}" for level in sorted(levels, reverse=True)]
    fields: dict[str, Any] = dict.fromkeys(names, (Text, ...))
    return create_model("Graded", **fields)


@cache
def passages_shape(count: int) -> type[BaseModel]:
    """An answer with so many passages."""
    fields: dict[str, Any] = {"passages": (Annotated[list[Text], Len(count, count)], ...)}
    return create_model("Passages", **fields)
