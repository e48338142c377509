"""What an embedded model needs of the memory, and whether there is that much."""

from __future__ import annotations

from typing import Final

import psutil  # type: ignore[import-untyped]

from multigrain.errors import LLMError
from multigrain.llm.local.gguf_file import GgufFile

_HALF_BYTES: Final = 2
_QUANTISED_OVERHEAD: Final = 8
"""OpenVINO keeps keys and values in 8 bits each, and a scale and a zero point of 4 bytes for every head."""


def llama_cpp_bytes(file: GgufFile, tokens: int) -> int:
    """llama.cpp's cache for so many tokens, in bytes; the weights are mapped, and make room where they must."""
    heads, size = file.header.cache_numbers() if file.header is not None else (0, 0)
    return tokens * heads * size * _HALF_BYTES


def openvino_bytes(file: GgufFile, tokens: int, weights: int) -> int:
    """OpenVINO's cache for so many tokens and its copy of the weights, in bytes."""
    heads, size = file.header.cache_numbers() if file.header is not None else (0, 0)
    return tokens * heads * (size + _QUANTISED_OVERHEAD) + weights


def check_memory(file: GgufFile, needed: int, runtime: str) -> None:
    """Turn a model down before it fills the memory.

    Raises:
        LLMError: there is not that much.
    """
    available = int(psutil.virtual_memory().available)
    if needed > available:
        raise LLMError(
            f"llm.model {file.path.name}: {runtime} needs about {needed / 2**20:,.0f} MiB, and "
            f"{available / 2**20:,.0f} MiB are free: lower llm.concurrency or llm.context_tokens"
        )
