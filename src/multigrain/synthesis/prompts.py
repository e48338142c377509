"""Prompts are files. Each is a Jinja template with a `user` block and, where it needs one, a `system` block.

A rendered prompt is part of the request, and the request decides the journal's key: a changed prompt never
reuses an old completion.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from multigrain.llm.protocol import Message

__all__ = ["render"]


def render(template: str, **values: Any) -> tuple[Message, ...]:
    """Fill a template into chat messages.

    Args:
        template: the file's name without its ending, e.g. "mgh".
        values: what the placeholders stand for; a missing one is an error, never an empty string.
    """
    loaded = _environment().get_template(f"{template}.jinja")
    context = loaded.new_context(values)
    texts = {name: "".join(block(context)).strip() for name, block in loaded.blocks.items()}
    messages = [Message("system", texts["system"])] if texts.get("system") else []
    return (*messages, Message("user", texts["user"]))


@cache
def _environment() -> Environment:
    # Prompts are plain text for a model, not HTML: escaping would change what it reads.
    return Environment(
        loader=PackageLoader("multigrain.synthesis", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701
        auto_reload=False,  # package files: looking at their dates twice a row costs more than the rendering
    )
