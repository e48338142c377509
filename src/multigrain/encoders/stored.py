"""Vectors that are computed once, as modules of a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule, Module, Router
from torch import Tensor

from multigrain.encoders.protocol import Encoder, Floats, Role, encode_as
from multigrain.errors import ModelError
from multigrain.model.query_side import QUERY, prompts_of

_REMEMBERED: Final = 10_000
"""Vectors that are kept in memory: training reads the same ones again and again, and a cache's disk is slower."""


class StoredVectors(InputModule):
    """An encoder as the first module of a model: texts become its vectors, with the prompts that are its own.

    Args:
        encoder: embeds; one that keeps what it has embedded.
        role: as what texts are embedded.
    """

    def __init__(self, encoder: Encoder, role: Role) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.encoder = encoder
        self.role: Role = role
        self._remembered: dict[str, Floats] = {}

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """The vectors of texts. The encoder puts prompts before them, so that `prompt` is dropped."""
        del prompt, kwargs
        texts = list(inputs)
        new = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        known = {text: self._remembered[text] for text in texts if text in self._remembered}
        if new:
            known |= zip(new, encode_as(self.encoder, new, self.role), strict=True)
            if len(self._remembered) + len(new) > _REMEMBERED:
                self._remembered.clear()
            self._remembered |= dict(list(known.items())[-_REMEMBERED:])
        return {"sentence_embedding": torch.from_numpy(np.stack([known[text] for text in texts]))}

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """What `preprocess` gave."""
        del kwargs
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """What decides the vectors."""
        return {"encoder": self.encoder.fingerprint, "role": self.role}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Refused: the encoder is saved in its own way.

        Raises:
            ModelError: always.
        """
        raise ModelError("stored vectors are no part of a model's folder; save what was trained behind them")


def with_stored_documents(model: SentenceTransformer, encoder: Encoder) -> SentenceTransformer:
    """A model with a route for queries, whose documents get an encoder's vectors; its modules are shared, not copied.

    Args:
        model: with a route for queries and one for documents (`model.query_side`).
        encoder: embeds documents; one that keeps what it has embedded.
    """
    queries = list(cast("Router", model[0]).sub_modules[QUERY].children())
    router = Router.for_query_document(queries, [StoredVectors(encoder, "document")])  # type: ignore[arg-type]
    return SentenceTransformer(
        modules=[router],
        device=str(model.device),
        prompts=prompts_of(model),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )


def model_of(encoder: Encoder, *behind_queries: Module, similarity: Any = "cosine") -> SentenceTransformer:
    """A model over an encoder's vectors, on the CPU.

    Args:
        encoder: embeds; one that keeps what it has embedded.
        behind_queries: modules that queries' vectors go through.
        similarity: by what vectors are compared.
    """
    queries: Sequence[Module] = (StoredVectors(encoder, "query"), *behind_queries)
    router = Router.for_query_document(list(queries), [StoredVectors(encoder, "document")])
    return SentenceTransformer(modules=[router], device="cpu", similarity_fn_name=similarity)
