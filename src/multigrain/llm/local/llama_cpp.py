"""llama.cpp inside this process: the embedded runtime that reads every GGUF file."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import ModuleType
from typing import Any, Final

import joblib  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]

from multigrain.display.install import install_line
from multigrain.errors import LLMError, MissingExtraError
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.llm.local.memory import check_memory, llama_cpp_bytes
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, extra_fingerprint
from multigrain.llm.wire import chat_body, read_completion

_SMALL_MODEL_BYTES: Final = 512 * 2**20
_IDLE_SAMPLE_SECONDS: Final = 0.3


class LlamaCppLLM:
    """Runs a GGUF model with llama.cpp, through xllamacpp. Implements `LLMClient`.

    Nothing is loaded before the first request, so a run whose every completion is journaled loads nothing.

    **Threads.** llama.cpp's threads wait for each other by spinning: two of them beside one other busy process
    were five to ten times slower than one alone (SmolLM2-135M on 2 cores). A small model therefore runs as
    several independent copies of one thread each, which never wait for each other; they map the same file, so
    only the cache is kept twice. On idle cores that is as fast, and beside other work it keeps its share.
    A larger model runs as one copy with as many threads as there are idle cores.

    **Prefix cache.** Each slot keeps the last prompt it read and skips whatever prefix the next one shares with
    it, so put what all prompts have in common (instructions, examples) first.

    **Prefill.** Where the last message is the assistant's, llama.cpp goes on from it, under a schema too.

    **Schemas** become a grammar: the answer is valid JSON unless it is cut at `max_tokens`.

    The same request and seed give the same answer, as far as floating point allows: what shares a batch with it
    can change the last digit of a probability, and with that, rarely, a word.

    Args:
        file: the model.
        concurrency: requests in flight.
        threads: CPU threads (None: one a core, within the container's limit; see above).
        context_tokens: longest prompt and answer together; the model's own limit where that is less.
        extra_body: more keys of every request, as llama.cpp's server takes them.

    Raises:
        MissingExtraError: xllamacpp is not installed.
    """

    def __init__(
        self,
        file: GgufFile,
        *,
        concurrency: int = 8,
        threads: int | None = None,
        context_tokens: int = 3072,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = _import_xllamacpp()
        self._file = file
        self._path = file.path
        self._identity = f"local:{file.path.name}:{file.fingerprint}{extra_fingerprint(extra_body)}"
        self._extra = extra_body
        self._threads = threads
        self._concurrency = concurrency
        self._context_tokens = context_tokens
        self._copies: list[_Copy] | None = None
        self._loading = Lock()

    def __repr__(self) -> str:
        return f"LlamaCppLLM({self._path.name!r}, concurrency={self._concurrency})"

    @property
    def identity(self) -> str:
        """`local:`, the file's name, a fingerprint of its content, and one of what else is sent."""
        return self._identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request; see `LLMClient.complete`.

        Raises:
            CompletionFailure: llama.cpp turned the request down ("too_long", "bad_request").
            LLMError: the model cannot be loaded.
        """
        body = {"cache_prompt": True} | chat_body(request, self._path.stem, extra=self._extra)
        started = time.perf_counter()
        answer = await self._ask(body)
        return read_completion(answer, prefill=request.prefill, seconds=time.perf_counter() - started)

    async def log_likelihood(self, request: CompletionRequest, answer: str) -> float:
        """How likely the model finds an answer: the natural logarithm of its probability.

        llama.cpp scores no given text, so the decoder is held to the answer by a grammar that admits nothing else,
        and the probabilities that the unconstrained model gave to each token on the way are multiplied. An answer
        can be spelt with other tokens too, so this is a lower bound.

        Raises:
            CompletionFailure: llama.cpp turned the request down, or the answer is longer than the context has room.
            LLMError: the model cannot be loaded.
        """
        body = chat_body(request, self._path.stem, extra=self._extra) | {
            "cache_prompt": True,
            "grammar": f"root ::= {_grammar_literal(answer)}",
            "max_tokens": len(answer.encode()) + 1,  # a token is a byte at least; one more ends the answer
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": 1,
        }
        body.pop("stop", None)
        choice = (await self._ask(body))["choices"][0]
        if choice["finish_reason"] != "stop" or choice["message"]["content"] != answer:
            raise CompletionFailure("too_long", "the answer to be scored does not fit the context")
        return float(sum(token["logprob"] for token in choice["logprobs"]["content"]))

    async def first_token(self, request: CompletionRequest, count: int) -> list[float]:
        """Log-probabilities of the likeliest tokens that an answer might begin with, falling, before any sampling.

        Nothing where llama.cpp does not tell: the first token is a part of a character, or ends the answer.

        Args:
            request: what is asked.
            count: how many.

        Raises:
            CompletionFailure: llama.cpp turned the request down.
            LLMError: the model cannot be loaded.
        """
        body = chat_body(request, self._path.stem, extra=self._extra) | {
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": count,
            "ignore_eos": True,  # an answer that ends at once would come without any
        }
        body.pop("stop", None)
        told = (await self._ask(body))["choices"][0].get("logprobs") or {"content": []}
        choices = [choice for token in told["content"][:1] for choice in token["top_logprobs"]]
        return sorted((float(choice["logprob"]) for choice in choices), reverse=True)

    async def aclose(self) -> None:
        """Finish what is being written and free the model."""
        copies, self._copies = self._copies, None
        for copy in copies or ():
            await asyncio.to_thread(copy.close)

    async def _ask(self, body: dict[str, Any]) -> Any:
        """The answer of the copy that has least to do."""
        copies = self._copies if self._copies is not None else await asyncio.to_thread(self._load)
        return await min(copies, key=lambda copy: copy.waiting).ask(body)

    def _load(self) -> list[_Copy]:
        with self._loading:
            if self._copies is None:
                check_memory(
                    self._file, llama_cpp_bytes(self._file, self._concurrency * self._context_tokens), "llama.cpp"
                )
                self._copies = [self._load_copy(*sizes) for sizes in self._layout()]
            return self._copies

    def _layout(self) -> list[tuple[int, int]]:
        """(threads, slots) of each copy."""
        if self._file.size > _SMALL_MODEL_BYTES:
            return [(self._threads or idle_cores(), self._concurrency)]
        threads = self._threads or int(joblib.cpu_count())
        copies = min(threads, self._concurrency)
        return [(_share(threads, copies, index), _share(self._concurrency, copies, index)) for index in range(copies)]

    def _load_copy(self, threads: int, slots: int) -> _Copy:
        parameters = self._engine.CommonParams()
        parameters.model.path = str(self._path)
        parameters.n_parallel = slots
        parameters.n_ctx = self._context_tokens * slots
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.verbosity = -1
        # The library keeps up to 8 GiB of old prompts by default; each slot's own last prompt is what helps here.
        parameters.cache_ram_mib = 0
        # It also listens on a loopback port, which we do not use: nobody else shall either.
        parameters.api_keys = [secrets.token_urlsafe(32)]
        parameters.ui = False
        try:
            return _Copy(self._engine.Server(parameters), slots)
        except RuntimeError as error:
            raise LLMError(
                f"llm.model {self._path}: llama.cpp cannot load it ({error}): "
                f"the file may be damaged, newer than the installed xllamacpp, or too large for the memory"
            ) from None


class _Copy:
    """One loaded model and the threads that wait for its answers."""

    def __init__(self, server: Any, slots: int) -> None:
        self._server = server
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="multigrain-llm")
        self.waiting = 0

    async def ask(self, body: dict[str, Any]) -> Any:
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, body)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._server = None

    def _ask(self, body: dict[str, Any]) -> Any:
        try:
            answer = self._server.handle_chat_completions(body)
        except (RuntimeError, ValueError) as error:
            # Bad schemas and lone surrogates end here: the library raises C++ exceptions as these two.
            raise CompletionFailure("bad_request", " ".join(str(error).split())[:200]) from None
        problem = answer.get("error") if isinstance(answer, dict) else None
        if problem:
            kind = "too_long" if problem.get("type") == "exceed_context_size_error" else "bad_request"
            raise CompletionFailure(kind, str(problem.get("message", problem))[:200])
        return answer


def _grammar_literal(text: str) -> str:
    """A text as a literal of llama.cpp's grammar language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'


def _import_xllamacpp() -> ModuleType:
    try:
        import xllamacpp
    except ModuleNotFoundError:
        raise MissingExtraError("xllamacpp", "the local language model", install_line("local")) from None
    return xllamacpp  # type: ignore[no-any-return]


def idle_cores() -> int:
    """How many of the cores that this process may use are idle right now, at least one."""
    cores = psutil.cpu_count() or 1
    idle = cores * (1 - psutil.cpu_percent(interval=_IDLE_SAMPLE_SECONDS) / 100)
    return max(1, min(int(joblib.cpu_count()), int(idle + 0.5)))


def _share(total: int, parts: int, index: int) -> int:
    return total // parts + (index < total % parts)
