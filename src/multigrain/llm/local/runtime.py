"""Which runtime an embedded model runs in, and a client that runs it there."""

from __future__ import annotations

import logging
import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar

from multigrain.display.install import install_line
from multigrain.errors import LLMError, MissingExtraError
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.llm.local.llama_cpp import LlamaCppLLM
from multigrain.llm.local.memory import llama_cpp_bytes, openvino_bytes
from multigrain.llm.local.openvino import PASSED_ON, OpenVinoLLM
from multigrain.llm.local.readable_copy import copy_bytes
from multigrain.llm.protocol import Completion, CompletionRequest
from multigrain.storage.packages import is_installed

_LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Runtime: TypeAlias = Literal["auto", "openvino", "llamacpp"]

_READ_BY_OPENVINO: Final = frozenset({"llama", "qwen2", "qwen3"})
_X86: Final = frozenset({"x86_64", "amd64"})


@dataclass(frozen=True, slots=True)
class Choice:
    """A runtime and why it was taken.

    Attributes:
        runtime: its name, as `llm.runtime` has it.
        reason: why, in a few words.
    """

    runtime: Literal["openvino", "llamacpp"]
    reason: str


def choose_runtime(file: GgufFile, wanted: Runtime = "auto", extra_body: Mapping[str, Any] | None = None) -> Choice:
    """The runtime for a model on this machine. Loads nothing.

    Args:
        file: the model.
        wanted: what the config says.
        extra_body: more keys of every request, as the config has them.

    Raises:
        MissingExtraError: no runtime is installed.
        LLMError: `openvino` is wanted and cannot run the model.
    """
    if wanted == "llamacpp":
        return Choice("llamacpp", "llm.runtime says so")
    obstacle = _obstacle(file, extra_body or {})
    if wanted == "openvino":
        if not is_installed("openvino-genai"):
            raise MissingExtraError("openvino-genai", "llm.runtime: openvino", install_line("local"))
        if obstacle:
            raise LLMError(f"llm.runtime: openvino cannot run {file.path.name}: {obstacle}; set llm.runtime: auto")
        return Choice("openvino", "llm.runtime says so")
    if obstacle:
        return Choice("llamacpp", obstacle)
    if not is_installed("xllamacpp"):
        return Choice("openvino", "xllamacpp is not installed")
    if platform.machine().lower() not in _X86:
        return Choice("llamacpp", f"its kernels are made for {platform.machine()}")
    return Choice("openvino", "it is the faster one on x86-64 processors")


def needed_bytes(choice: Choice, file: GgufFile, *, concurrency: int, context_tokens: int) -> int:
    """About how much memory a model takes at most, in bytes: its weights, and a cache that the settings bound."""
    tokens = concurrency * context_tokens
    if choice.runtime == "openvino":
        return openvino_bytes(file, tokens, copy_bytes(file))
    return file.size + llama_cpp_bytes(file, tokens)


class LocalLLM:
    """A GGUF model inside this process, in the runtime that suits it best. Implements `LLMClient`.

    Nothing is loaded before the first request. Where the runtime was chosen here and cannot load the file after all,
    the other one takes over, and the log says so; from then on the identity is that one's.

    Args:
        model: a .gguf path, `package:NAME`, `OWNER/REPO:FILE.gguf` on the hub, or `auto`.
        runtime: see `choose_runtime`.
        concurrency: requests in flight.
        threads: CPU threads (None: one a core, within the container's limit).
        context_tokens: longest prompt and answer together; the model's own limit where that is less.
        extra_body: more keys of every request, as llama.cpp's server takes them.

    Raises:
        MissingExtraError: no runtime, or a `package:` named here, is not installed.
        ModelError: the reference leads to no file.
        LLMError: the file is no GGUF model, cannot be downloaded, or not be run by the runtime that is asked for.
    """

    def __init__(
        self,
        model: str = "auto",
        *,
        runtime: Runtime = "auto",
        concurrency: int = 8,
        threads: int | None = None,
        context_tokens: int = 3072,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._file = GgufFile.find(model)
        self._settings: dict[str, Any] = {
            "concurrency": concurrency,
            "threads": threads,
            "context_tokens": context_tokens,
            "extra_body": extra_body,
        }
        self.choice = choose_runtime(self._file, runtime, extra_body)
        self._may_fall_back = runtime == "auto" and is_installed("xllamacpp")
        self._inner: OpenVinoLLM | LlamaCppLLM = self._client()
        self._told = False

    def __repr__(self) -> str:
        return f"LocalLLM({self._inner!r})"

    @property
    def identity(self) -> str:
        """The runtime's client's: runtimes write different texts from one seed, so journals keep them apart."""
        return self._inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request; see `LLMClient.complete`.

        Raises:
            CompletionFailure: the request was turned down ("too_long", "bad_request").
            LLMError: the model cannot be loaded.
        """
        return await self._ask(lambda client: client.complete(request))

    async def log_likelihood(self, request: CompletionRequest, answer: str) -> float:
        """How likely the model finds an answer: the natural logarithm of its probability.

        Raises:
            CompletionFailure: the request was turned down, or does not fit the context.
            LLMError: the model cannot be loaded.
        """
        return await self._ask(lambda client: client.log_likelihood(request, answer))

    async def aclose(self) -> None:
        """Finish what is being written and free the model."""
        await self._inner.aclose()

    def _client(self) -> OpenVinoLLM | LlamaCppLLM:
        if self.choice.runtime == "openvino":
            return OpenVinoLLM(self._file, **self._settings)
        return LlamaCppLLM(self._file, **self._settings)

    async def _ask(self, ask: Callable[[OpenVinoLLM | LlamaCppLLM], Awaitable[Answer]]) -> Answer:
        """Ask in the chosen runtime; in the other one where only loading shows that this one cannot run the model."""
        if not self._told:
            self._told = True
            _LOG.info("%s runs in %s: %s", self._file.path.name, self.choice.runtime, self.choice.reason)
        inner = self._inner
        try:
            return await ask(inner)
        except LLMError as error:
            if not (self._may_fall_back and isinstance(inner, OpenVinoLLM)):
                raise
            if self._inner is inner:  # of all who waited for it, the first one changes it
                self.choice = Choice("llamacpp", str(error))
                self._inner = self._client()
                _LOG.warning("llama.cpp takes over: %s", error)
            return await ask(self._inner)


def _obstacle(file: GgufFile, extra_body: Mapping[str, Any]) -> str:
    """Why OpenVINO cannot run a model, or the requests to it; empty where it can."""
    if not is_installed("openvino-genai"):
        return "openvino-genai is not installed"
    if file.header is None:
        return "the file's header cannot be read"
    if file.header.architecture not in _READ_BY_OPENVINO:
        return f"OpenVINO does not read the architecture {file.header.architecture!r}"
    if other := sorted(extra_body.keys() - PASSED_ON):
        return f"only llama.cpp takes {other[0]!r} of llm.extra_body"
    return ""
