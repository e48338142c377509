"""The protocol of language models: a request, a completion, and a client that answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from multigrain.llm.alternatives import TokenChoices


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Everything that decides a completion, besides the model.

    Attributes:
        messages: the chat so far. Where the last one is the assistant's, the model goes on from its text
            (a prefill), and the completion holds the continuation alone.
        schema: a JSON schema that the answer must follow; None for free text.
        temperature: 0 is greedy.
        top_p: nucleus sampling.
        max_tokens: longest answer.
        room: most tokens for an answer and for what the model thinks before it, where it is known to think first;
            0: no more than `max_tokens`. It says how to ask and not what, so journals do not tell by it.
        seed: of the sampler, where the endpoint honours it.
        alternatives: for how many tokens at each place of the answer the probability is wanted, where the endpoint
            tells it; 0: none. One with them is another request to a journal, as its answer holds more.
        stop: texts that end the answer.
        asked_by: who asks, where that is not the run's one strategy: journals keep askers' answers apart. It is
            never sent.
    """

    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    temperature: float = 0.8
    top_p: float = 0.9
    max_tokens: int = 768
    seed: int = 0
    stop: tuple[str, ...] = ()
    asked_by: str = ""
    room: int = 0
    alternatives: int = 0

    @property
    def prefill(self) -> str:
        """What the model goes on from: the last message's text where that is the assistant's, else empty."""
        last = self.messages[-1] if self.messages else None
        return last.content if last is not None and last.role == "assistant" else ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: the raw answer: untrusted, unparsed, without the prefill it goes on from.
        finish_reason: "stop", "length" (cut, e.g. at max_tokens, or broken off), or the endpoint's own word.
        model: the name the endpoint reports.
        prompt_tokens: tokens read, as reported; 0 where unreported.
        completion_tokens: tokens written, as reported; 0 where unreported.
        cached_tokens: prompt tokens that a prefix cache saved the endpoint, as reported.
        seconds: from sending to the last byte.
        thought: whether the endpoint says that the model thought before it answered; journals do not keep it.
        alternatives: the answer's tokens, with what might have stood in their places; None where that was not told.
    """

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    thought: bool = False
    alternatives: tuple[TokenChoices, ...] | None = None


class CompletionFailure(Exception):  # noqa: N818 - a row's misfortune, not an error of the program
    """One request came to nothing. It costs its own row only, so it is no MultigrainError.

    Attributes:
        kind: a short stable word, for counting. From clients: "timeout", "connection", "rate_limited",
            "server_error", "bad_request", "too_long", "content_filter", "malformed". From `ask`: "empty", "prose",
            "refusal", "truncated", "schema"; of reasoning models also "reasoning".
        detail: one line for people; never a key or a header.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class UnusableAnswer(CompletionFailure):
    """A model answered, but not in a form that can be used. Costs its own row only."""


def openai_identity(model: str, extra_body: Mapping[str, Any] | None = None) -> str:
    """The identity of a model behind an endpoint: the same model at another address is the same model.

    Args:
        model: its name.
        extra_body: more keys of every request.
    """
    return f"openai:{model}{extra_fingerprint(extra_body)}"


def extra_fingerprint(extra_body: Mapping[str, Any] | None) -> str:
    """What ends the identity of a model that is sent more keys, as they may change every answer; else empty."""
    if not extra_body:
        return ""
    plain = json.dumps(extra_body, sort_keys=True, separators=(",", ":"))
    return f"+{hashlib.sha256(plain.encode('ascii')).hexdigest()[:12]}"


@runtime_checkable
class LLMClient(Protocol):
    """Something that completes requests. Safe to call concurrently from one event loop."""

    @property
    def identity(self) -> str:
        """Names the model for fingerprints and reports: provider and model, never a key or a header."""
        ...

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request.

        Raises:
            CompletionFailure: this request came to nothing, through every retry worth making.
            LLMError: the endpoint is unreachable or refuses for good: no request can succeed.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections, threads and memory."""
        ...
