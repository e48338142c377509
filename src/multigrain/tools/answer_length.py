"""How long the answers of a language model are taken to be where no journal has answers to go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from multigrain.llm.protocol import CompletionRequest

_FREE_TEXT_TOKENS: Final = 30
_FIELD_TOKENS: Final = 70
"""Assumed length of an answer, and of one field of a structured one."""


def assumed_length(request: CompletionRequest) -> float:
    """About how many tokens the answer to a request has."""
    if request.schema is None:
        return _FREE_TEXT_TOKENS
    return _FIELD_TOKENS * max(1, _texts(request.schema))


def _texts(schema: Mapping[str, Any]) -> int:
    """How many texts an answer of a schema holds."""
    if schema.get("type") == "array":
        return int(schema.get("maxItems", schema.get("minItems", 1))) * _texts(schema.get("items", {}))
    properties = schema.get("properties")
    return sum(map(_texts, properties.values())) if properties else 1
