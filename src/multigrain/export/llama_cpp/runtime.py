"""llama.cpp's embedding server in this process (xllamacpp), asked as whoever serves the file will ask it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from multigrain.errors import ExportError
from multigrain.export.graph import is_normalised
from multigrain.export.llama_cpp.file import read_tokens
from multigrain.export.llama_cpp.vocabulary import added_ids
from multigrain.llm.local.llama_cpp import idle_cores
from multigrain.model.prompts import document_prompt, query_prompt

_MOST_TOKENS: Final = 4096
_SECONDS: Final = 60
_EUCLIDEAN, _AS_IT_IS = 2, -1


class LlamaCppEmbedder:
    """A GGUF file, embedded by llama.cpp. Has `encode_query` and `encode_document`, as exports have.

    llama.cpp refuses a text that is longer than the file reads; here such a text is cut as the model's own tokenizer
    cuts it, and sent as token numbers. Attention and its cache compute in float32, so that what is measured is the
    file; llama.cpp's defaults round both to float16.

    Args:
        file: the GGUF file.
        model: what it was made from, for prompts and lengths.
        slots: texts that are embedded together.
        defaults: leave attention and cache in llama.cpp's own precision.
        threads: CPU threads (None: one for each idle core).

    Raises:
        ExportError: llama.cpp cannot load the file.
    """

    def __init__(
        self,
        file: Path,
        model: SentenceTransformer,
        *,
        slots: int = 4,
        defaults: bool = False,
        threads: int | None = None,
    ) -> None:
        self._prompts = query_prompt(model), document_prompt(model)
        self.limit = min(read_tokens(model), _MOST_TOKENS)
        self._ends = added_ids(model.tokenizer)[1]
        self._key = secrets.token_urlsafe(32)
        parameters = _parameters(file, self.limit, slots, threads or idle_cores(), defaults=defaults)
        parameters.embd_normalize = _EUCLIDEAN if is_normalised(model) else _AS_IT_IS
        parameters.api_keys = [self._key]
        import xllamacpp

        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise ExportError(f"llama.cpp cannot load the GGUF file ({' '.join(str(error).split())[:200]})") from None

    def encode_query(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed queries, with the model's query prompt."""
        return self.encode(texts, prompt=self._prompts[0], batch_size=batch_size)

    def encode_document(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed documents, with the model's document prompt."""
        return self.encode(texts, prompt=self._prompts[1], batch_size=batch_size)

    def encode(self, texts: Sequence[str], *, prompt: str = "", batch_size: int = 32) -> NDArray[np.float32]:
        """Embed texts.

        Returns:
            (texts, dimension).

        Raises:
            ExportError: llama.cpp refuses them.
        """
        inputs = [self._fitting(prompt + text) for text in texts]
        parts = [self._embed(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
        return np.array([vector for part in parts for vector in part], dtype=np.float32)

    def tokens(self, text: str) -> list[int]:
        """The numbers of a text's tokens, with those that llama.cpp adds."""
        body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        request = Request(f"{self._server.listening_address}/tokenize", body, headers)  # noqa: S310 (our own loopback)
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            return [int(number) for number in json.load(answer)["tokens"]]

    def _fitting(self, text: str) -> str | list[int]:
        if len(text.encode()) < self.limit:  # a token is a byte at least, and there is room for what is added
            return text
        numbers = self.tokens(text)
        if len(numbers) <= self.limit:
            return text
        return numbers[: self.limit - len(self._ends)] + self._ends

    def _embed(self, inputs: list[str | list[int]]) -> list[list[float]]:
        answer = self._server.handle_embeddings({"input": inputs})
        if "data" not in answer:
            message = str(answer.get("error", {}).get("message", answer))
            raise ExportError(f"llama.cpp does not embed with the GGUF file: {message[:200]}")
        return [row["embedding"] for row in sorted(answer["data"], key=lambda row: int(row["index"]))]


def context_tokens(limit: int, slots: int) -> int:
    """Tokens of llama.cpp's context: a cache of keys and values has to have room for one more in each slot."""
    return (limit + 1) * slots


def _parameters(file: Path, limit: int, slots: int, threads: int, *, defaults: bool) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.embedding = True
    parameters.n_parallel = slots
    parameters.n_ctx = context_tokens(limit, slots)
    # Every text is read in one piece: caches apart, texts of unequal length are split, and a decoder pools the last
    # part of each alone.
    parameters.kv_unified = True
    parameters.n_batch = parameters.n_ubatch = context_tokens(limit, slots)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = -1
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.ui = False
    if not defaults:
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return parameters
