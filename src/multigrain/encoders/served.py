"""Embedding models behind an endpoint: OpenAI's own, or what vLLM, TEI, llama.cpp, Ollama and others serve."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import random
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import aiohttp
import numpy as np

from multigrain.config import fingerprint
from multigrain.config.paths import SERVED_PREFIX
from multigrain.encoders.protocol import Floats, Role, RoleEncoder, unit_length
from multigrain.encoders.vectors import VectorCheck
from multigrain.encoders.wires import OPENAI, Wire
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError, EvaluationError
from multigrain.llm.complaints import read_complaint
from multigrain.llm.endpoint import Endpoint, find_endpoint
from multigrain.llm.prices import about_text_tokens
from multigrain.llm.retry import RETRIED_STATUS, Backoff, retry_after_seconds
from multigrain.llm.wire import read_count

SERVED: Final = SERVED_PREFIX
KEY_VARIABLE: Final = "OPENAI_API_KEY"
BATCH_SIZE: Final = 64
"""Texts a request, where nobody says."""

_LOG = logging.getLogger(__name__)
_ATTEMPTS: Final = 6
_IN_FLIGHT: Final = 8
_TIMEOUT_SECONDS: Final = 120.0
_TOO_MUCH: Final = frozenset({400, 413, 422})
"""What endpoints answer to too many texts at once, or to one that is too long."""
_TOO_LARGE: Final = b"too large to process"
"""So says llama.cpp's server of a long text, with status 500."""
_PROMPT_NAME: Final = re.compile(rb"prompt[-_ ]name", re.IGNORECASE)
"""So says a server that has no prompt of a name."""
_KEPT_SHARE: Final = 0.75
_BLANK: Final = " "
"""What stands for an empty text, which OpenAI's endpoint turns down."""
Answer: TypeAlias = list[float] | str
"""A text's vector, or why it has none."""
_Result = TypeVar("_Result")
_SHORTEST: Final = 32
"""Characters below which a text is not cut any further: something else must be wrong with it."""


def served_name(reference: str) -> tuple[str, str | None]:
    """The model's name and, where the reference names one, its endpoint's address.

    Args:
        reference: `openai:MODEL` or `openai:MODEL@ADDRESS`.
    """
    model, at, address = reference.removeprefix(SERVED).partition("@http")
    return model, f"http{address}" if at else None


@dataclass
class EmbeddingUsage:
    """What an endpoint has embedded.

    Attributes:
        requests: that were answered with vectors.
        tokens: that it read, as it reports them; by the length of the texts where it reports none.
    """

    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """What the requests of one call share: their connections, how many are under way, and whose texts they are.

    Once one has failed for good, none is begun or sent again; those that are under way are waited for, since their
    answers are paid for.
    """

    session: aiohttp.ClientSession
    slots: asyncio.Semaphore
    role: Role
    failed: asyncio.Event

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place among the requests under way."""
        async with self.slots:
            if self.failed.is_set():
                raise asyncio.CancelledError
            yield


class ServedEncoder(RoleEncoder):
    """An embedding model behind an endpoint that speaks OpenAI's `/embeddings`, or another protocol (`wires.WIRES`).

    Requests that fail for a passing reason are sent again. Batches that the endpoint finds too
    large are halved, and how many texts it takes is remembered where it says so; a text that is longer than the model
    reads is cut until it is taken, as a model that runs here would cut it, and a warning says how many there were. An
    optional parameter that the endpoint does not know is left out from then on. A text that it cannot embed costs
    itself (see `VectorCheck`).

    Args:
        reference: `openai:MODEL` or `openai:MODEL@ADDRESS`; without an address $OPENAI_BASE_URL, else OpenAI's own.
            The key is read from $OPENAI_API_KEY.
        batch_size: texts a request.
        query_prompt: put before every query.
        document_prompt: put before every document.
        prompt_names: the prompt that the server itself is to put before a role's texts, sent as `prompt_name`.
        wire: the protocol.
        normalise: give every vector length 1; False for what the server gives.

    Attributes:
        usage: what was embedded so far.
        cut: texts that the server refused as they were, and took when they were cut, prompts included.
        on_answer: told of every batch as soon as it is answered: its role, its texts as they were sent, the answers.

    Raises:
        ConfigError: no such address can be, or OpenAI's own endpoint has no key.

    Raises (while encoding):
        EndpointUnreachableError: nothing answers, or every attempt failed.
        EndpointRefusedError: it does not accept the key, or has no such model.
        EvaluationError: it turns a text down, or answers with something that is no vectors.
    """

    def __init__(
        self,
        reference: str,
        *,
        batch_size: int = BATCH_SIZE,
        query_prompt: str = "",
        document_prompt: str = "",
        prompt_names: Mapping[Role, str] | None = None,
        wire: Wire = OPENAI,
        normalise: bool = True,
    ) -> None:
        self._model, address = served_name(reference)
        self._endpoint: Endpoint = find_endpoint(address, KEY_VARIABLE, setting=f"model {reference}: its endpoint")
        self._batch_size = batch_size
        self._prompts: dict[Role, str] = {"query": query_prompt, "document": document_prompt}
        self._prompt_names = dict(prompt_names or {})
        self._wire = wire
        self._normalise = normalise
        self._chance = random.Random(0)
        self.cut: set[str] = set()
        self._optional = dict(wire.optional)
        self._check = VectorCheck(self._where())
        self.usage = EmbeddingUsage()
        self.on_answer: Callable[[Role, Sequence[str], Sequence[Answer]], None] = lambda role, texts, answers: None

    @property
    def prompts(self) -> Mapping[Role, str]:
        """What is put before texts, by role."""
        return self._prompts

    def prompted(self, text: str, role: Role) -> str:
        """A text as it is sent."""
        return self._prompts[role] + text or _BLANK

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the vectors, as far as it can be known from here: address, name, prompts."""
        # Only what differs from the first form is added: vectors that were kept are found again.
        own: list[Any] = [] if self._wire is OPENAI else [self._wire.name]
        own += [] if self._normalise else ["as it is"]
        own += sorted(self._prompt_names.items())
        return fingerprint("served", self._endpoint.url, self._model, tuple(self._prompts.values()), *own)

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        return finish(self._embed_all([self.prompted(text, role) for text in texts], role))

    async def _embed_all(self, texts: list[str], role: Role) -> Floats:
        before, slots = len(self.cut), asyncio.Semaphore(_IN_FLIGHT)
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            call = _Call(session, slots, role, asyncio.Event())
            batches = [texts[start : start + self._batch_size] for start in range(0, len(texts), self._batch_size)]
            results = await asyncio.gather(*(self._part(call, batch) for batch in batches), return_exceptions=True)
        if failures := [result for result in results if isinstance(result, BaseException)]:
            raise next((each for each in failures if not isinstance(each, asyncio.CancelledError)), failures[0])
        if len(self.cut) > before:
            _LOG.warning("%s: %d texts are longer than it reads and were cut", self._model, len(self.cut) - before)
        answers = [answer for result in results if not isinstance(result, BaseException) for answer in result]
        reasons = {number: answer for number, answer in enumerate(answers) if isinstance(answer, str)}
        widths = {number: len(answer) for number, answer in enumerate(answers) if not isinstance(answer, str)}
        width = next(iter(widths.values()), 1 if answers else 0)
        for number, own in widths.items():
            if own != width:
                raise EvaluationError(
                    f"{self._where()}: {role} {number + 1} ({texts[number][:40]!r}) got a vector of {own} dimensions, "
                    f"{role} {next(iter(widths)) + 1} one of {width}: its vectors are of different lengths, of two "
                    "models behind one name"
                )
        missing = [0.0] * width
        rows = [missing if isinstance(answer, str) else answer for answer in answers]
        table = np.array(rows, dtype=np.float32).reshape(len(texts), -1 if rows else 0)
        checked = self._check(table, texts, role, reasons=reasons)
        return unit_length(checked) if self._normalise else checked

    async def _part(self, call: _Call, texts: Sequence[str]) -> list[Answer]:
        try:
            return await self._embed(call, texts)
        except BaseException:
            call.failed.set()
            raise

    async def _embed(self, call: _Call, texts: Sequence[str]) -> list[Answer]:
        """Embed one batch, in parts or cut as the endpoint demands: for each text its vector, or why it has none."""
        if len(texts) > self._batch_size:  # what was learnt since the batch was made
            return await self._in_parts(call, texts, self._batch_size)
        async with call.slot():
            status, body = await self._post(call, texts)
        if status == 200:
            return self._answered(call, texts, self._vectors(body, texts))
        passing_over = _is_too_much(status, body) or _is_about_a_text(status, body)
        if not passing_over or (self._prompt_names and _PROMPT_NAME.search(body)):
            raise self._refusal(status, body)
        if len(texts) > 1:
            named = _named_limit(body, len(texts))
            self._batch_size = min(self._batch_size, named or self._batch_size)
            return await self._in_parts(call, texts, named or (len(texts) + 1) // 2)
        if _is_about_a_text(status, body):
            return [self._message(body)]
        return self._answered(call, texts, [await self._embed_cut(call, texts[0], body)])

    def _answered(self, call: _Call, texts: Sequence[str], answers: list[Answer]) -> list[Answer]:
        self.on_answer(call.role, texts, answers)
        return answers

    async def _in_parts(self, call: _Call, texts: Sequence[str], size: int) -> list[Answer]:
        parts = [await self._embed(call, texts[start : start + size]) for start in range(0, len(texts), size)]
        return [answer for part in parts for answer in part]

    async def _embed_cut(self, call: _Call, text: str, complaint: bytes) -> Answer:
        start = text
        while len(start) > _SHORTEST:
            start = start[: int(_KEPT_SHARE * len(start))]
            async with call.slot():
                status, body = await self._post(call, [start])
            if status == 200:
                self.cut.add(text)
                return self._vectors(body, [start])[0]
            if not _is_too_much(status, body):
                raise self._refusal(status, body)
        return f"turned down: {self._message(complaint)}"

    async def _post(self, call: _Call, texts: Sequence[str]) -> tuple[int, bytes]:
        """Send a batch until it is answered by something that another attempt would not change."""
        failure, attempt = "", 0
        while attempt < _ATTEMPTS:
            pause: float | None = None
            sent = {**self._wire.request(self._model, texts), **self._optional}
            if name := self._prompt_names.get(call.role):
                sent["prompt_name"] = name
            try:
                async with call.session.post(
                    self._endpoint.address(self._wire.path),
                    json=sent,
                    headers=self._endpoint.headers,
                    proxy=self._endpoint.proxy,
                    allow_redirects=False,
                ) as response:
                    body = await response.read()
                    if response.status in _TOO_MUCH and self._learns(body, sent):
                        continue
                    passing = response.status >= 500 or response.status in RETRIED_STATUS
                    if not passing or _is_too_much(response.status, body) or _is_about_a_text(response.status, body):
                        return response.status, body
                    pause, failure = retry_after_seconds(response.headers), f"{response.status} {self._message(body)}"
            except TimeoutError:
                failure = f"no answer within {_TIMEOUT_SECONDS:g} s"
            except (aiohttp.ClientError, OSError) as error:
                failure = self._endpoint.redact(str(error) or type(error).__name__)
            if call.failed.is_set():
                break
            if attempt < _ATTEMPTS - 1:
                await asyncio.sleep(pause if pause is not None else Backoff().wait_seconds(attempt, self._chance))
            attempt += 1
        raise EndpointUnreachableError(
            f"{self._where()}: {_ATTEMPTS} attempts failed ({failure}): is the server running, and the address right? "
            "With --cache or --out, the same command continues from there"
        )

    def _learns(self, body: bytes, sent: dict[str, Any]) -> bool:
        """Leave out an optional parameter that the endpoint names in its refusal; whether there was one."""
        words = body.decode("utf-8", "replace").lower()
        named = [name for name in self._wire.optional if name in words and name in sent]
        for name in named:
            self._optional.pop(name, None)
        return bool(named)

    def _vectors(self, body: bytes, texts: Sequence[str]) -> list[Answer]:
        try:
            answer = json.loads(body)
            if isinstance(answer, dict) and not answer.keys() & {"data", "embeddings"}:
                complaint = read_complaint(200, answer)
                if complaint:
                    raise EndpointRefusedError(f"{self._where()} answers: {self._endpoint.redact(complaint.sentence)}")
            data = self._wire.items(answer)
            numbers = {item.get("index") for item in data if isinstance(item, dict)}
            if len(numbers) == len(data) > 1:  # some servers number none, or all alike: then the order is theirs
                data = sorted(data, key=lambda item: int(item["index"]))
            vectors = [_read_vector(item["embedding"] if isinstance(item, dict) else item) for item in data]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if body.lstrip()[:1] == b"<":
                raise EvaluationError(
                    f"{self._where()} answers with a web page instead of vectors: is the address that of the server's "
                    "API?"
                ) from None
            raise EvaluationError(
                f"{self._where()}: its answer holds no vectors ({type(error).__name__}: {error})"
            ) from None
        if len(vectors) != len(texts) or not all(vectors):
            raise EvaluationError(f"{self._where()}: {len(vectors)} vectors for {len(texts)} texts")
        self.usage.requests += 1
        self.usage.tokens += _tokens_read(answer) or sum(map(about_text_tokens, texts))
        return vectors

    def _refusal(self, status: int, body: bytes) -> EndpointRefusedError:
        if status in (401, 403):
            advice = f"it does not accept the key: check the environment variable {KEY_VARIABLE}"
        elif status == 404:
            advice = f"no such path, or no model {self._model!r}: {self._message(body)}"
        elif 300 <= status < 400:
            advice = "it redirects: give the final address, usually ending in /v1"
        else:
            advice = self._message(body)
        return EndpointRefusedError(f"{self._where()} answers {status}: {advice}")

    @property
    def where(self) -> str:
        """The model and its address, for messages."""
        return self._where()

    def _where(self) -> str:
        return f"embedding model {self._model} at {self._endpoint.url}"

    def _message(self, body: bytes) -> str:
        """What an error's body says, on a short line without secrets."""
        text = body[:4000].decode("utf-8", "replace")
        try:
            answer = json.loads(body)
            error = answer.get("error", answer) if isinstance(answer, dict) else answer
            text = str(error.get("message") or error) if isinstance(error, dict) else str(error)
        except (ValueError, RecursionError):
            pass
        return self._endpoint.redact(text)


def _tokens_read(answer: Any) -> int:
    """The tokens that an endpoint says it read; 0 where it says nothing of use."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return 0
    return read_count(usage.get("prompt_tokens")) or read_count(usage.get("total_tokens"))


def _read_vector(value: Any) -> Answer:
    """A vector, in any of the forms that servers send: numbers, base64 of float32, or either as a list of one."""
    if value is None:
        return "its answer holds null for it"
    if isinstance(value, str):
        return [float(number) for number in np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")]
    if value and isinstance(value[0], list):
        if len(value) > 1:
            raise ValueError("a vector for each token; start the server with a pooling")
        value = value[0]
    return [math.nan if number is None else float(number) for number in value]


def _is_about_a_text(status: int, body: bytes) -> bool:
    """Whether a server failed over the vector of one of the texts: llama.cpp and Ollama cannot write NaN as JSON."""
    return status == 500 and re.search(rb"\bnan\b", body, re.IGNORECASE) is not None


def _named_limit(body: bytes, sent: int) -> int | None:
    """How many texts a request may have, where the refusal of more says so."""
    words = body.decode("utf-8", "replace").lower()
    if not re.search(r"batch|array|number of (inputs|texts|items)|inputs|texts", words) or "token" in words:
        return None
    numbers = [int(number) for number in re.findall(r"(?<![\d.])\d{1,5}(?![\d.]*\d)", words)]
    return max((number for number in numbers if 1 <= number < sent), default=None)


def _is_too_much(status: int, body: bytes) -> bool:
    return status in _TOO_MUCH or (status == 500 and _TOO_LARGE in body)


def finish(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Wait for work that must not need an event loop of the caller's, which a notebook has and a script has not.

    Raises:
        MultigrainError: the first error of the work, without the group that tasks wrap it into.
    """
    try:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(work)
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(asyncio.run, work).result()
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
