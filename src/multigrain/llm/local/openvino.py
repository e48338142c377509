"""OpenVINO inside this process: the embedded runtime that batches."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Lock
from typing import Any, Final

import joblib  # type: ignore[import-untyped]

from multigrain.display.install import install_line
from multigrain.errors import LLMError, MissingExtraError
from multigrain.llm.local.batching import Batcher, Filler, Generated
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.llm.local.memory import check_memory, openvino_bytes
from multigrain.llm.local.readable_copy import copy_bytes, readable_file
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, extra_fingerprint
from multigrain.llm.schemas import CHECKED_HERE, without_keywords
from multigrain.storage.hardware import cpu_has_amx

PASSED_ON: Final = frozenset({"chat_template_kwargs"})
"""The keys of `extra_body` that mean something here."""

_BLOCK_TOKENS: Final = 32
_BATCHED_TOKENS: Final = 512
_LARGEST_SEED: Final = 2**63
_ATTEMPTS: Final = 3
_READING_COUNTS: Final = 300_000_000
"""Bytes of a file from which on reading prompts takes longer than writing single tokens, measured with AMX."""

_BLANKS: Final = 32
_FILLER: Final = 1
_FILLER_TOKENS: Final = 8
_FILLER_BLOCKS: Final = 2


class OpenVinoLLM:
    """Runs a GGUF model with openvino-genai. Implements `LLMClient`.

    Nothing is loaded before the first request, so a run whose every completion is journaled loads nothing. What
    OpenVINO would read badly it reads from a copy; see `readable_copy`.

    **Batches.** Requests share each step of the model, and join and leave as they come, so weights are read once for
    all of them. The cache is `concurrency` times `context_tokens`, and no more requests are in work at once, so each
    finds room.

    **Precision.** Weights are as the file has them. Activations are float32, but bfloat16 where the processor has AMX
    and the file 300 MB or more. There a model of 1.5B parameters writes three times as fast in bfloat16, one of 0.5B
    1.6 times; one of 135M, which spends its time on single tokens, only six tenths as fast. OpenVINO itself would take
    bfloat16 for AVX512-BF16 too, with which it is slower than float32 and fewer answers are of use.

    **Schemas.** The library lets any white space stand between the parts of a JSON answer, and small models sometimes
    write nothing else up to their limit. Such an answer is asked for again, with the next seed.

    **Prefix cache.** What prompts have in common is read once, so put instructions and examples first.

    **Seeds.** Each request has a random engine of its own. The same request and seed give the same answer, as far as
    floating point allows: what shares a batch with it can change the last digit of a probability, and with that a
    word, at temperature 0 too.

    Args:
        file: the model.
        concurrency: requests in work at once.
        threads: CPU threads (None: one a core, within the container's limit).
        context_tokens: longest prompt and answer together; the model's own limit where that is less.
        extra_body: more keys of every request; of `PASSED_ON` alone.

    Raises:
        MissingExtraError: openvino-genai is not installed.
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
        try:
            import openvino_genai
        except ImportError as error:
            raise MissingExtraError(
                "openvino-genai", f"llm.runtime: openvino ({error})", install_line("local")
            ) from None
        self._genai = openvino_genai
        self._file = file
        self._identity = f"local:{file.path.name}:{file.fingerprint}:openvino{extra_fingerprint(extra_body)}"
        self._template_values = dict((extra_body or {}).get("chat_template_kwargs", {}))
        self._concurrency = concurrency
        self._threads = threads or int(joblib.cpu_count())
        limit = file.header.context_tokens if file.header is not None else None
        self._context_tokens = min(context_tokens, limit or context_tokens)
        self._writer: _Loaded | None = None
        self._scorer: _Loaded | None = None
        self._loading = Lock()

    def __repr__(self) -> str:
        return f"OpenVinoLLM({self._file.path.name!r}, concurrency={self._concurrency})"

    @property
    def identity(self) -> str:
        """`local:`, the file's name, a fingerprint of its content, the runtime, and what else is sent.

        The runtime is part of it, as another one writes other texts from the same seed.
        """
        return self._identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request; see `LLMClient.complete`.

        Raises:
            CompletionFailure: the request cannot be taken ("too_long", "bad_request").
            LLMError: the model cannot be loaded.
        """
        writer = await self.load()
        started = time.perf_counter()
        prompt = writer.tokens(self._prompt(writer, request))
        room = self._context_tokens - len(prompt)
        if room < 1:
            raise _too_long(len(prompt), self._context_tokens)
        schema = None if request.schema is None else json.dumps(without_keywords(CHECKED_HERE, request.schema))
        written = 0
        for attempt in range(1 if schema is None else _ATTEMPTS):
            seeded = replace(request, seed=request.seed + attempt)
            settings = self._settings(writer, seeded, min(request.max_tokens, room), schema)
            generated = await writer.ask(prompt, settings, schema)
            text = writer.text(generated.tokens)
            written += len(generated.tokens)
            if generated.end == "stop" or len(text) - len(text.rstrip()) < _BLANKS:
                break
        return Completion(
            text=text,
            finish_reason=generated.end,
            model=self._file.path.stem,
            prompt_tokens=len(prompt),
            completion_tokens=written,
            seconds=time.perf_counter() - started,
        )

    async def log_likelihood(self, request: CompletionRequest, answer: str) -> float:
        """How likely the model finds an answer: the natural logarithm of its probability, its end counted in.

        The model reads prompt and answer in one go and says how likely it found each token. It does so for tokens that
        it reads only, so this is done by a second pipeline that keeps no prefixes.

        Raises:
            CompletionFailure: prompt and answer do not fit the context.
            LLMError: the model cannot be loaded.
        """
        scorer = await asyncio.to_thread(self._load_scorer)
        prompt = scorer.tokens(self._prompt(scorer, request))
        whole = [*prompt, *scorer.tokens(answer), scorer.end_token]
        if len(whole) >= self._context_tokens:
            raise _too_long(len(whole), self._context_tokens)
        settings = self._genai.GenerationConfig(
            max_new_tokens=1, do_sample=False, echo=True, logprobs=1, apply_chat_template=False
        )
        generated = await scorer.ask(whole, settings, None)
        return float(sum(generated.log_probabilities[len(prompt) : len(whole)]))

    async def load(self) -> _Loaded:
        """Load the model, if it is not loaded yet.

        Raises:
            LLMError: it cannot be loaded.
        """
        return self._writer if self._writer is not None else await asyncio.to_thread(self._load_writer)

    async def aclose(self) -> None:
        """Finish what is being written and free the model."""
        loaded, self._writer, self._scorer = (self._writer, self._scorer), None, None
        for one in loaded:
            if one is not None:
                await asyncio.to_thread(one.batcher.close)

    def _load_writer(self) -> _Loaded:
        with self._loading:
            if self._writer is None:
                self._writer = self._load(prefix_cache=True)
            return self._writer

    def _load_scorer(self) -> _Loaded:
        with self._loading:
            if self._scorer is None:
                self._scorer = self._load(prefix_cache=False)
            return self._scorer

    def _load(self, *, prefix_cache: bool) -> _Loaded:
        blocks = self._concurrency * (-(-self._context_tokens // _BLOCK_TOKENS) + 1) + _FILLER_BLOCKS
        check_memory(
            self._file, openvino_bytes(self._file, blocks * _BLOCK_TOKENS, copy_bytes(self._file)), "OpenVINO"
        )
        path = readable_file(self._file)
        scheduler = self._genai.SchedulerConfig()
        scheduler.num_kv_blocks = blocks
        scheduler.max_num_seqs = self._concurrency + 1  # the filler's
        scheduler.max_num_batched_tokens = max(_BATCHED_TOKENS, self._concurrency)
        scheduler.enable_prefix_caching = prefix_cache
        precision = "bf16" if cpu_has_amx() and path.stat().st_size >= _READING_COUNTS else "f32"
        properties = {"INFERENCE_NUM_THREADS": self._threads, "INFERENCE_PRECISION_HINT": precision}

        def opened() -> Any:
            try:
                return self._genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", properties)
            except (RuntimeError, MemoryError) as error:
                raise LLMError(
                    f"llm.model {self._file.path}: OpenVINO cannot load it ({' '.join(str(error).split())[-200:]}): "
                    f"the file may be damaged or of a kind that it does not know; set llm.runtime: llamacpp"
                ) from None

        settings = self._genai.GenerationConfig(
            max_new_tokens=_FILLER_TOKENS, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        filler = Filler(_tensor([_FILLER]), settings, self._streamer)
        return _Loaded(Batcher(opened, self._concurrency, filler=filler if prefix_cache else None))

    def _streamer(self, heard: Callable[[], None]) -> Any:
        """The library's listener to a request's tokens."""
        genai = self._genai

        class Streamer(genai.StreamerBase):  # type: ignore[name-defined, misc]
            def write(self, token: Any) -> Any:
                heard()
                return genai.StreamingStatus.RUNNING

            def end(self) -> None:
                """Nothing is kept."""

        return Streamer()

    def _prompt(self, loaded: _Loaded, request: CompletionRequest) -> str:
        messages = request.messages[:-1] if request.prefill else request.messages
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return loaded.chat(chat, self._template_values) + request.prefill

    def _settings(self, loaded: _Loaded, request: CompletionRequest, max_tokens: int, schema: str | None) -> Any:
        settings = self._genai.GenerationConfig(
            max_new_tokens=max_tokens, apply_chat_template=False, rng_seed=request.seed % _LARGEST_SEED
        )
        settings.set_eos_token_id(loaded.end_token)
        if request.temperature > 0:
            settings.do_sample = True
            settings.temperature, settings.top_p = request.temperature, request.top_p
        if request.stop:
            settings.stop_strings = set(request.stop)
        if schema is not None:
            settings.structured_output_config = self._genai.StructuredOutputConfig(json_schema=schema)
        return settings


class _Loaded:
    """A pipeline in its thread, and its tokenizer."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self._tokenizer = batcher.tokenizer()
        self.end_token = int(self._tokenizer.get_eos_token_id())

    def chat(self, messages: list[dict[str, str]], values: Mapping[str, Any]) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, add_generation_prompt=True, extra_context=dict(values) or None
                )
            )
        except (RuntimeError, ValueError) as error:
            raise CompletionFailure("bad_request", " ".join(str(error).split())[-200:]) from None

    def tokens(self, text: str) -> list[int]:
        try:
            ids = self._tokenizer.encode(text, add_special_tokens=False).input_ids
        except (RuntimeError, ValueError) as error:  # half a character, say
            raise CompletionFailure("bad_request", " ".join(str(error).split())[-200:]) from None
        return [int(token) for token in ids.data.reshape(-1)]

    def text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens))

    async def ask(self, prompt: list[int], settings: Any, schema: str | None) -> Generated:
        return await asyncio.wrap_future(self.batcher.submit(_tensor(prompt), settings, schema))


def _tensor(tokens: list[int]) -> Any:
    """Token ids as OpenVINO takes them: (1, tokens)."""
    import numpy as np
    import openvino

    return openvino.Tensor(np.array([tokens], dtype=np.int64))


def _too_long(tokens: int, limit: int) -> CompletionFailure:
    return CompletionFailure("too_long", f"the prompt has {tokens} tokens, and the context {limit}")
