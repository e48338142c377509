"""Keywords of JSON schemas that a schema is sent without."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

CHECKED_HERE: Final = ("minLength",)
"""What answers are only checked for, and no server is told. xgrammar, with which vLLM and OpenVINO GenAI decode, takes
a text with a least or greatest length for one that holds no quote, backslash or line end: no code could be written.

A greatest length is sent: whoever sets one wants a small model that repeats itself to end there. No schema of this
package has one.
"""


def without_keywords(names: Collection[str], schema: Any) -> Any:
    """A schema without some of its keywords; properties may well be called like them."""
    if isinstance(schema, list):
        return [without_keywords(names, part) for part in schema]
    if not names or not isinstance(schema, Mapping):
        return schema
    named = {name: schema[name] for name in ("properties", "$defs") if name in schema}
    plain = {
        key: without_keywords(names, value) for key, value in schema.items() if key not in names and key not in named
    }
    return plain | {
        name: {key: without_keywords(names, part) for key, part in parts.items()} for name, parts in named.items()
    }
