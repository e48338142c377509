"""Journal entries, the keys that they are found by, and sums over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from multigrain.config import PriceConfig
from multigrain.llm.prices import cost_of
from multigrain.llm.protocol import Completion, CompletionRequest, Message

Source = Literal["live", "batch"]
"""How an answer came: as it was asked for, or in a batch file, which costs less."""

_KEY_FORMAT: Final = 1
_UNDECISIVE: Final = ("asked_by", "room")
_ADDED: Final = {"alternatives": 0}
"""What older versions did not ask for, and its value where it is not asked for: such requests keep their keys."""

_NEVER: Final = object()
_DECISIVE: Final = tuple(
    attribute.name for attribute in fields(CompletionRequest) if attribute.name not in _UNDECISIVE
)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A completion with what made it.

    Attributes:
        key: its fingerprint.
        strategy: who asked.
        client: the client's identity.
        request: what was asked, as plain values, or as JSON of these.
        completion: the answer.
        created_at: ISO 8601, UTC.
        source: how it came.
    """

    key: str
    strategy: str
    client: str
    request: Mapping[str, Any] | str
    completion: Completion
    created_at: str
    source: Source = "live"


@dataclass(frozen=True, slots=True)
class TokenSums:
    """Sums over completions, as the endpoints report them.

    Attributes:
        completions: how many.
        prompt_tokens: tokens read, cached ones among them.
        completion_tokens: tokens written.
        cached_tokens: tokens read from a prefix cache.
        cut: completions that were stopped at their token limit.
    """

    completions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cut: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def cost(self, price: PriceConfig) -> float:
        """US dollars, by the model's price. Requests that failed are not in it: no one reports what they cost."""
        return cost_of(
            price,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class JournalTotals(TokenSums):
    """Sums over a journal, answers that came in batch files among them.

    Attributes:
        batch: of answers that came in batch files, which cost less.
        failures: requests that came to nothing and have no answer yet, by kind.
        details: the latest of each kind, in the words of whoever turned it down.
        uncounted: completions whose tokens no endpoint has reported; they are in the sums as estimates.
        awaiting_batch: requests written to batch files that have no answer yet.
    """

    _: KW_ONLY
    batch: TokenSums = TokenSums()
    failures: dict[str, int] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    uncounted: int = 0
    awaiting_batch: int = 0

    def cost(self, price: PriceConfig) -> float:
        """US dollars, by the model's price, what batch files save taken off."""
        return TokenSums.cost(self, price) - (1 - price.batch_share) * self.batch.cost(price)


def request_key(client: str, strategy: str, request: CompletionRequest) -> str:
    """The fingerprint under which the answer to a request is kept: SHA-256, hexadecimal.

    Args:
        client: the client's identity.
        strategy: who asks, unless the request says so itself.
        request: what decides the answer besides.
    """
    return key_of(client, request.asked_by or strategy, request_json(request))


def request_json(request: CompletionRequest) -> str:
    """What of a request decides its answer, as JSON: what its key is made of, and what the journal keeps."""
    # Escaped to ASCII, so that no text, however broken, is without a key.
    return json.dumps(plain_request(request), sort_keys=True, separators=(",", ":"))


def key_of(client: str, asked_by: str, request: str) -> str:
    """The key of a request, given as `request_json` makes it; see `request_key`."""
    head = json.dumps([_KEY_FORMAT, client, asked_by], separators=(",", ":"))
    return hashlib.sha256(f"{head[:-1]},{request}]".encode("ascii")).hexdigest()


def plain_request(request: CompletionRequest) -> dict[str, Any]:
    """What of a request decides its answer, as plain values.

    Unlike `asdict` it copies nothing, which a hundred thousand rows notice.
    """
    values: dict[str, Any] = {
        name: value for name in _DECISIVE if (value := getattr(request, name)) != _ADDED.get(name, _NEVER)
    }
    values["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    return values


def restored_request(values: Mapping[str, Any]) -> CompletionRequest:
    """A request from its plain values."""
    messages = tuple(Message(**message) for message in values["messages"])
    return CompletionRequest(**{**values, "messages": messages, "stop": tuple(values["stop"])})


def storable(completion: Completion) -> Completion:
    """A completion as the journal can keep it, and gives it back."""
    texts = (completion.text, completion.model, completion.finish_reason)
    text, model, finish_reason = map(storable_text, texts)
    if (text, model, finish_reason) == texts:
        return completion
    return replace(completion, text=text, model=model, finish_reason=finish_reason)


def storable_text(text: str) -> str:
    """The text with half characters (lone surrogates, which JSON can carry and UTF-8 cannot) replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
