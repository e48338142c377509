"""What goes before a query and before a document: one rule, for every part that embeds and for saved folders.

sentence-transformers fills in an empty `document` prompt where a model names none, so that it never comes to the other
names that it documents; and it puts a default prompt before texts that are neither query nor document alone. Authors
mean otherwise: a prompt called `passage` is the documents', and a default prompt is for every text without its own.
A model that is loaded here has both settled under `query` and `document`, so that sentence-transformers, MTEB, an
export and whoever opens the saved folder put the same words before the same text.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from sentence_transformers import SentenceTransformer

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""The names of each role's prompt; of several with a text, the first."""
_ENDING: Final = {
    role: re.compile(rf".*[^a-z0-9](?:{'|'.join(names)})", re.IGNORECASE | re.DOTALL) for role, names in _NAMES.items()
}
"""How a prompt of a role may be named besides: for a task, such as `s2p_query` or `Retrieval-document`."""


def query_prompt(model: SentenceTransformer) -> str:
    """What goes before a query; empty for nothing."""
    return role_prompt(model, "query")


def document_prompt(model: SentenceTransformer) -> str:
    """What goes before a document; empty for nothing."""
    return role_prompt(model, "document")


def default_prompt(model: SentenceTransformer) -> str:
    """What goes before a text that is neither; empty for nothing."""
    name = model.default_prompt_name
    return model.prompts.get(name) or "" if name is not None else ""


def other_prompts(model: SentenceTransformer) -> tuple[str, ...]:
    """The names of prompts that go before no text here, since none is a role's own or its only one by its ending."""
    used = {name for role in _NAMES for name in (*_NAMES[role], _only_name(model, role))}
    return tuple(
        name for name, text in model.prompts.items() if text and name not in {*used, model.default_prompt_name}
    )


def _only_name(model: SentenceTransformer, role: str) -> str | None:
    """The name of a prompt that ends in a role's, where one alone does."""
    names = [name for name, text in model.prompts.items() if text and _ENDING[role].fullmatch(name)]
    return names[0] if len(names) == 1 else None


def role_prompt(model: SentenceTransformer, role: Literal["query", "document"]) -> str:
    """What goes before a text of a role: its own prompt, else the default one unless that is the other role's.

    Its own is the one of its name, or else the only one whose name ends in it, such as `s2p_query`.

    An empty prompt counts as none: sentence-transformers writes them for models that have none.
    """
    names = (*_NAMES[role], _only_name(model, role) or "")
    own = next((text for name in names if (text := model.prompts.get(name))), None)
    if own is not None:
        return own
    others = [other for other in _NAMES if other != role]
    of_others = {name for other in others for name in (*_NAMES[other], _only_name(model, other))}
    return "" if model.default_prompt_name in of_others else default_prompt(model)


def settle_prompts(model: SentenceTransformer) -> None:
    """Write both roles' prompts under `query` and `document`, in place, where everything else looks for them."""
    model.prompts |= {"query": query_prompt(model), "document": document_prompt(model)}


def set_prompts(model: SentenceTransformer, *, query: str | None = None, document: str | None = None) -> None:
    """Give a model prompts of the user's own, in place.

    Args:
        model: the model.
        query: goes before every query; empty for nothing, None for what the model has.
        document: goes before every document; as above.
    """
    settle_prompts(model)
    asked: dict[Any, str] = {"query": query_prompt(model) if query is None else query}
    asked["document"] = document_prompt(model) if document is None else document
    model.prompts |= asked
    if any(role_prompt(model, role) != text for role, text in asked.items()):
        # Nothing was asked for, and another name or the default would still put something there.
        silent = [role for role, text in asked.items() if not text]
        fallbacks = {name for role in silent for name in (*_NAMES[role][1:], _only_name(model, role))}
        model.prompts = {name: text for name, text in model.prompts.items() if name not in fallbacks}
        model.default_prompt_name = None
