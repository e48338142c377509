"""What a model costs to search with: its size, and how fast it embeds on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sentence_transformers import SentenceTransformer

from multigrain.encoders.facts import ModelCost
from multigrain.encoders.protocol import Encoder
from multigrain.mining.lexical import LexicalIndex

MILLION: Final = 1_000_000
SAMPLE: Final = 2_000
"""Texts that a cost is measured on at most."""

_FIRST: Final = 8
_FLOAT: Final = 4  # bytes


def model_cost(
    model: SentenceTransformer | None, encoder: Encoder, texts: Sequence[str], *, seconds: float = 0.5
) -> ModelCost:
    """Measure an embedding model.

    Args:
        model: the model; None for one that runs elsewhere, which is not timed, as that would be paid for.
        encoder: the model's, without a cache where it is timed.
        texts: documents to embed, at least one.
        seconds: the longest that embedding may go on before no further batch is begun.
    """
    dimensions = encoder.encode_documents(texts[:1]).shape[1]  # libraries set themselves up at first use
    index = _FLOAT * dimensions * MILLION
    if model is None:
        return ModelCost(dimensions=dimensions, index=index)
    parameters = list(model.parameters())
    started, done, size = time.perf_counter(), 0, _FIRST
    while done < len(texts) and time.perf_counter() - started < seconds:
        done += len(encoder.encode_documents(texts[done : done + size]))
        size *= 2
    return ModelCost(
        parameters=sum(parameter.numel() for parameter in parameters),
        dimensions=dimensions,
        texts_per_second=done / (time.perf_counter() - started),
        memory=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        index=index,
    )


def lexical_cost(texts: Sequence[str]) -> ModelCost:
    """Measure an index of words: how fast it is made, and how large it is.

    Args:
        texts: documents, at least one.
    """
    started = time.perf_counter()
    size = LexicalIndex(texts).nbytes
    speed = len(texts) / (time.perf_counter() - started)
    return ModelCost(texts_per_second=speed, memory=size, index=size * MILLION // len(texts))
