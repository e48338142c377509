"""Any endpoint that speaks OpenAI's chat completions: vLLM, llama.cpp's server, Ollama, OpenAI, OpenRouter and more.

Spoken to by aiohttp rather than the SDK, whose conventions (environment variables, base_url, retried statuses) are
kept: the SDK's own bookkeeping costs more than twice the CPU a request, which is what limits a fast endpoint
(`benchmarks/http_clients.py`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from multigrain.config import LLMConfig
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError
from multigrain.llm.complaints import Complaint, failure_of, read_complaint
from multigrain.llm.endpoint import Endpoint, find_endpoint
from multigrain.llm.limiter import AdaptiveLimit
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, openai_identity
from multigrain.llm.retry import RETRIED_STATUS, Backoff, retry_after_seconds
from multigrain.llm.streams import read_stream
from multigrain.llm.wire import Dialect, read_completion

_LOG = logging.getLogger(__name__)

_LARGEST_ANSWER: Final = 16 * 2**20
_REFUSED_STATUS: Final = frozenset({401, 402, 403, 404})
_MALFORMED_ATTEMPTS: Final = 2
"""An answer that arrived but cannot be read may have been paid for: it is asked for once more, not five times."""
_PATIENCE: Final = 4
"""A busy endpoint is not a broken one: 429 gets this many times the attempts."""
_HOPELESS: Final = 50


@dataclass(frozen=True, slots=True)
class _Reply:
    """One HTTP answer, or why there was none.

    Attributes:
        status: that it came under, or that it means: some gateways send errors under 200.
        body: the parsed JSON; the text where it is none.
        complaint: what the endpoint says where it is an error.
        pause: seconds for which the endpoint asks to be left alone.
        failure: why there was no answer.
        connected: whether anything answered at the address.
    """

    status: int = 0
    body: Any = None
    complaint: Complaint | None = None
    pause: float | None = None
    failure: CompletionFailure | None = None
    connected: bool = True


class OpenAICompatibleLLM:
    """A model behind an HTTP endpoint. Implements `LLMClient`, for one event loop.

    Requests that fail for a passing reason (408, 409, 425, 429, 5xx, a reset, a timeout) are sent again after a
    jittered wait, or after the pause that the endpoint asks for; 429 also lowers the number of requests in
    flight, which grows back as answers come. Parameters and `response_format`s that the endpoint turns down are
    put another way (see `Dialect`).

    Args:
        config: the model's name at the endpoint, where that is, and how it is asked.
        known_as: the model's name in `identity`, where this endpoint has another for it.
        backoff: the waits between attempts.
        seed: of the jitter.

    Raises:
        ConfigError: the address or the key cannot be right.
    """

    def __init__(
        self, config: LLMConfig, *, known_as: str | None = None, backoff: Backoff | None = None, seed: int = 0
    ) -> None:
        self._config = config
        self._identity = openai_identity(known_as or config.model, config.extra_body)
        self._endpoint = find_endpoint(config.base_url, config.api_key_env, config.extra_headers)
        self._url = self._endpoint.address("chat/completions")
        self._attempts = 1 + config.max_retries
        self._backoff = backoff or Backoff()
        self._dialect = Dialect(config.model, structured=config.structured_output, extra_body=config.extra_body)
        self._limit = AdaptiveLimit(config.concurrency)
        self._chance = random.Random(seed)
        self._session: aiohttp.ClientSession | None = None
        self._answered = 0
        self._warned_attempt = 0
        self._failed_in_a_row: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"OpenAICompatibleLLM({self._config.model!r}, {self._endpoint.url!r})"

    @property
    def identity(self) -> str:
        """`openai:`, the model's name, and a fingerprint of what else is sent; the address does not matter."""
        return self._identity

    @property
    def room(self) -> int:
        """Requests that may be in flight now: the concurrency, or less while the endpoint pushes back."""
        return self._limit.current

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request; see `LLMClient.complete`.

        Raises:
            CompletionFailure: this request came to nothing: "timeout", "connection", "rate_limited",
                "server_error", "bad_request", "too_long", "content_filter" or "malformed".
            EndpointRefusedError: 401, 402, 403, 404, a redirect, an exhausted quota.
            EndpointUnreachableError: nothing answers, or nothing has succeeded for a long while.
        """
        try:
            completion = await self._complete(request)
        except CompletionFailure as failure:
            self._note_failure(failure)
            raise
        self._failed_in_a_row.clear()
        return completion

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _complete(self, request: CompletionRequest) -> Completion:
        answered_before = self._answered
        attempt = unreadable = 0
        with_room = True
        most_tokens: int | None = None
        while True:
            version = self._dialect.version
            body = self._dialect.body(request, with_room=with_room, most_tokens=most_tokens)
            if "seed" in body:
                body["seed"] += unreadable  # the same seed would give the same broken answer
            started = time.perf_counter()
            async with self._limit.slot() as sent_at:
                reply = await self._post(body)
                self._adapt(reply, sent_at)
            failure = reply.failure or self._judge(reply, body, version)
            if failure is None:
                try:
                    seconds = time.perf_counter() - started
                    completion = read_completion(reply.body, prefill=request.prefill, seconds=seconds)
                except CompletionFailure as unread:
                    failure = self._with_words(unread, reply)
                else:
                    self._dialect.observe(request, completion)
                    return completion
            if failure.kind == "put_another_way":
                continue
            if failure.kind == "too_long" and reply.complaint is not None:
                if with_room and body != self._dialect.body(request, with_room=False, most_tokens=most_tokens):
                    with_room = False  # what was too long may be the room for thoughts
                    continue
                if (fewer := self._dialect.fewer_tokens(reply.complaint, request, body)) is not None:
                    most_tokens = fewer
                    continue
            attempt += 1
            unreadable += failure.kind == "malformed"
            if not reply.connected and attempt >= self._attempts and self._answered == answered_before:
                raise EndpointUnreachableError(
                    f"llm.base_url {self._endpoint.url}: nothing answers ({failure.detail}): "
                    f"is the server running, and the address right? `multigrain doctor CONFIG` asks it"
                )
            if not _worth_repeating(failure, attempt, self._attempts):
                raise failure
            if not reply.connected:
                self._tell_of_retry(attempt, failure)
            wait = self._backoff.wait_seconds(attempt, self._chance) if reply.pause is None else reply.pause
            await asyncio.sleep(wait)

    async def _post(self, body: dict[str, Any]) -> _Reply:
        """Send once. Never raises for what the network does."""
        try:
            async with self._open().post(
                self._url,
                data=json.dumps(body).encode(),
                headers=self._endpoint.headers,
                proxy=self._endpoint.proxy,
                allow_redirects=False,
            ) as response:
                answer = _parsed(await _read(response))
                pause = retry_after_seconds(response.headers)
                complaint = read_complaint(response.status, answer)
                return _Reply(complaint.status if complaint else response.status, answer, complaint, pause)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return _Reply(failure=CompletionFailure("connection", _why(error, self._endpoint)), connected=False)
        except TimeoutError:
            return _Reply(failure=CompletionFailure("timeout", f"no answer within {self._config.timeout_seconds:g} s"))
        except (aiohttp.ClientError, OSError) as error:
            detail = f"the connection broke ({type(error).__name__})"
            return _Reply(failure=CompletionFailure("connection", detail))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connect = min(15.0, self._config.timeout_seconds)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._config.concurrency, ttl_dns_cache=300),
                timeout=aiohttp.ClientTimeout(total=self._config.timeout_seconds, sock_connect=connect),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _adapt(self, reply: _Reply, sent_at: float) -> None:
        if reply.failure is None:
            self._answered += 1
            self._warned_attempt = 0
        if reply.status == 429 or (reply.status == 503 and reply.pause is not None):
            self._limit.pushed_back(sent_at, reply.pause)
        elif reply.status == 200:
            self._limit.succeeded()

    def _tell_of_retry(self, attempt: int, failure: CompletionFailure) -> None:
        """Say once for all requests in flight that nothing answers: the waits until it is given up are long."""
        if attempt > self._warned_attempt:
            self._warned_attempt = attempt
            _LOG.warning(
                "no answer from %s (%s); trying again, %d of %d",
                self._endpoint.url,
                failure.detail,
                attempt,
                self._attempts - 1,
            )

    def _judge(self, reply: _Reply, body: dict[str, Any], version: int) -> CompletionFailure | None:
        """What an HTTP answer means; None for a completion.

        Raises:
            EndpointRefusedError: no request can succeed.
        """
        complaint = reply.complaint
        if complaint is None:
            return None
        status, shown = complaint.status, self._endpoint.redact(complaint.sentence)
        failure = failure_of(complaint, shown)
        if failure.kind == "content_filter":
            return failure
        # A model that tells no probabilities may say so as if the key were wrong.
        if self._dialect.is_about_logprobs(complaint, body) and self._dialect.learn(complaint, body, version):
            return CompletionFailure("put_another_way", shown)
        if status in _REFUSED_STATUS or 300 <= status < 400 or "insufficient_quota" in complaint.words:
            raise EndpointRefusedError(self._refusal(status, shown))
        if status == 429:
            return CompletionFailure("rate_limited", f"429 through every attempt: {shown}".removesuffix(": "))
        if status in RETRIED_STATUS:
            return CompletionFailure("server_error", failure.detail)
        if failure.kind != "malformed" and status <= 500 and self._dialect.learn(complaint, body, version):
            return CompletionFailure("put_another_way", shown)
        return failure

    def _with_words(self, failure: CompletionFailure, reply: _Reply) -> CompletionFailure:
        """A failure to read an answer, with what it says: it may be a page of whatever stands at the address."""
        if failure.kind != "malformed":
            return CompletionFailure(failure.kind, self._endpoint.redact(failure.detail))
        said = reply.body if isinstance(reply.body, str) else json.dumps(reply.body, ensure_ascii=False)
        what = "the answer is not JSON" if isinstance(reply.body, str) else failure.detail
        return CompletionFailure("malformed", f"{what}: {self._endpoint.redact(said)}".removesuffix(": "))

    def _refusal(self, status: int, shown: str) -> str:
        where = f"llm.base_url {self._endpoint.url} answers {status}"
        if status in (401, 403):
            said = f" ({shown})" if shown else ""
            return (
                f"{where}: it does not accept the key{said}: check the environment variable {self._endpoint.key_name}"
            )
        if status == 404:
            return f"{where}: no such path, or no model {self._config.model!r} (llm.model): {shown or 'check both'}"
        if 300 <= status < 400:
            return f"{where}: it redirects: set llm.base_url to the final address, usually ending in /v1"
        return f"{where}: the account has no credit left: {shown or 'top it up'}; what was written is kept"

    def _note_failure(self, failure: CompletionFailure) -> None:
        """Give up on an endpoint where nothing succeeds any more; the run can be resumed when it is back.

        Raises:
            EndpointUnreachableError: the last many requests have all failed, whatever their text.
        """
        if failure.kind in ("content_filter", "too_long"):
            return
        self._failed_in_a_row[failure.kind] += 1
        if self._failed_in_a_row.total() >= max(_HOPELESS, 2 * self._config.concurrency):
            kinds = ", ".join(f"{count} {kind}" for kind, count in self._failed_in_a_row.most_common())
            raise EndpointUnreachableError(
                f"llm.base_url {self._endpoint.url}: the last {self._failed_in_a_row.total()} requests all failed "
                f"({kinds}; lately: {failure.detail}): run the same command again when it is well; "
                f"what was written is kept"
            )


def _worth_repeating(failure: CompletionFailure, attempts_made: int, attempts: int) -> bool:
    if failure.kind == "malformed":
        attempts = min(attempts, _MALFORMED_ATTEMPTS)
    elif failure.kind == "rate_limited":
        attempts *= _PATIENCE
    elif failure.kind in ("bad_request", "too_long", "content_filter"):
        return False
    return attempts_made < attempts


def _why(error: aiohttp.ClientError, endpoint: Endpoint) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else endpoint.redact(str(error) or type(error).__name__)


def _parsed(raw: bytes) -> Any:
    """The JSON of an answer, whole or streamed; its text where it is neither."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        text = raw.decode("utf-8", "replace")
    streamed = read_stream(text)
    return text[:4000] if streamed is None else streamed


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to a size that no completion has."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _LARGEST_ANSWER:
            raise aiohttp.ClientPayloadError("the answer is too large")
        parts.append(part)
    return b"".join(parts)
