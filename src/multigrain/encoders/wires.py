"""How servers are asked for vectors: OpenAI's protocol, and those of text-embeddings-inference, llama.cpp and Ollama.

Read in their sources and documents: text-embeddings-inference 0d124dc (router/src/http/types.rs), llama.cpp
(tools/server/README.md, b9000 and later), Ollama (docs/api.md, 0.12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

WireName: TypeAlias = Literal["openai", "tei", "llamacpp", "ollama"]
Protocol: TypeAlias = Literal["auto", "openai", "tei", "llamacpp", "ollama"]
"""A protocol, or "auto" to ask the server which it is."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A protocol of embedding.

    Attributes:
        name: what options call it.
        title: what people call it.
        path: where texts are sent, below the server's address.
        texts: the key of a request that the texts stand under.
        items: takes an answer apart: an item a text, each a vector in one of the forms that servers send, or an object
            with it under `embedding` and its number under `index`.
        names_model: whether a request names the model.
        optional: parameters that not every server knows, and that a request can do without.
    """

    name: WireName
    title: str
    path: str
    texts: str
    items: Callable[[Any], Sequence[Any]]
    names_model: bool = True
    optional: Mapping[str, Any] = field(default_factory=dict)

    def request(self, model: str, texts: Sequence[str]) -> dict[str, Any]:
        """The body of a request without optional parameters."""
        named = {"model": model} if self.names_model else {}
        return {**named, self.texts: list(texts)}


def _listed(key: str) -> Callable[[Any], Sequence[Any]]:
    """Items under a key, or an answer that is the list itself, as llama.cpp's own path has it."""
    return lambda answer: answer if isinstance(answer, list) else answer[key]


OPENAI: Final = Wire(
    "openai", "OpenAI's protocol", "embeddings", "input", _listed("data"), True, {"encoding_format": "float"}
)
WIRES: Final[Mapping[WireName, Wire]] = {
    "openai": OPENAI,
    "tei": Wire("tei", "text-embeddings-inference's protocol", "embed", "inputs", _listed("data"), False),
    "llamacpp": Wire("llamacpp", "llama.cpp's protocol", "embedding", "input", _listed("data"), False),
    "ollama": Wire("ollama", "Ollama's protocol", "api/embed", "input", _listed("embeddings")),
}
