"""What an endpoint says when it does not do what it was asked: found in every wrapping, and told apart by kind.

Gateways pass on what another service said, as JSON in a string in an object; some send it under status 200.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from multigrain.llm.protocol import CompletionFailure

_LONGEST: Final = 4000
_DEEPEST: Final = 8
_SENTENCES: Final = ("message", "msg", "detail", "error", "description", "reason", "raw", "error_description", "title")
_FINISHED_BY_FILTER: Final = frozenset(
    {
        "contentfilter",
        "safety",
        "prohibitedcontent",
        "recitation",
        "blocklist",
        "spii",
        "sensitive",
    }
)
_FINISHED_BY_CUT: Final = frozenset(
    {
        "length",
        "lengthlimit",
        "maxlength",
        "modellength",  # Mistral
        "maxtokens",  # Anthropic, Gemini, Cohere
        "maxoutputtokens",
        "maxcompletiontokens",
        "maxnewtokens",
        "tokenlimit",
        "contextlength",
        "contextlengthexceeded",
        "modelcontextwindowexceeded",
        "error",  # this word and the next two: the answer broke off
        "insufficientsystemresource",  # DeepSeek
        "abort",  # vLLM, SGLang
        "aborted",
        "incomplete",
        "truncated",
    }
)
_NOT_LETTERS: Final = re.compile("[^a-z]+")
_FILTERED: Final = (
    "content_filter",
    "content filter",
    "content_policy",
    "content policy",
    "content management policy",
    "responsibleaipolicy",
    "data_inspection_failed",
    "prohibited_content",
    "input was flagged",
    "flagged as potentially violating",
    "requires moderation",
)
_TOO_LONG: Final = (
    "context_length",
    "context length",
    "exceed_context",
    "context window",
    "context size",
    "prompt is too long",
    "input is too long",
)
_NOT_THERE: Final = (
    "unexpected endpoint",
    "no such path",
    "no route",
    "unknown url",
    "invalid url",
    "unknown path",
    "cannot post",
    "cannot get",
    "path not found",
    "404 page not found",
)
_BAD_KEY: Final = (
    "api key not valid",
    "api key not found",
    "api_key_invalid",
    "incorrect api key",
    "invalid api key",
    "invalid_api_key",
)
_BROKEN_JSON: Final = ("json_validate_failed", "failed to generate json", "failed to validate json")
"""How a service says that it looked at an answer's JSON, found it broken, and keeps it to itself."""
_TOO_MANY: Final = ("rate_limit", "rate limit", "rate-limit", "too many requests", "resource_exhausted", "overloaded")


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error that an endpoint answered with.

    Attributes:
        status: the HTTP status that it means, whichever it came under.
        sentence: what it says, for people.
        words: everything that it says, names of fields and codes too: for telling what it is about.
    """

    status: int
    sentence: str
    words: str

    @property
    def kind(self) -> str:
        """The kind of failure that it is: see `CompletionFailure`."""
        lower = self.words.lower()
        if any(word in lower for word in _FILTERED):
            return "content_filter"
        if self.status == 429:
            return "rate_limited"
        if any(word in lower for word in _BROKEN_JSON):
            return "malformed"
        if self.status >= 500 or self.status < 400:
            return "server_error"
        return "too_long" if any(word in lower for word in _TOO_LONG) else "bad_request"


def read_complaint(status: int, body: Any) -> Complaint | None:
    """The error in an answer's body; None where the status is 200 and there is none.

    Args:
        status: that the answer came under.
        body: the parsed JSON, or the text where it is none; untrusted.
    """
    error = body[0] if isinstance(body, list) and body and isinstance(body[0], Mapping) else body
    if status == 200 and not (isinstance(error, Mapping) and _is_error(error)):
        return None
    sentences = list(dict.fromkeys(_sentences(error, 0)))
    words = list(dict.fromkeys(_words(error, 0)))
    # A gateway's own sentence is followed by the one that it passes on.
    sentence = ": ".join(one for one in sentences if not any(one != other and one in other for other in sentences))
    everything = " ".join(words)[:_LONGEST]
    return Complaint(_status(status, error, everything), (sentence or everything)[:_LONGEST], everything)


def filtered(finish_reason: Any) -> bool:
    """Whether an endpoint says, by its own word for how an answer ended, that it withheld the text."""
    return _ending(finish_reason) in _FINISHED_BY_FILTER


def read_finish(finish_reason: Any) -> str:
    """How an answer ended: "length" where it was cut or broke off, whatever the endpoint's word for that is.

    Args:
        finish_reason: the endpoint's word, which is returned for any other end; untrusted.
    """
    if _ending(finish_reason) in _FINISHED_BY_CUT:
        return "length"
    return finish_reason if isinstance(finish_reason, str) else "unknown"


def _ending(finish_reason: Any) -> str:
    """The letters of an endpoint's word for how an answer ended: "MAX_TOKENS" and "max-tokens" are one word."""
    word = finish_reason.lower() if isinstance(finish_reason, str) else ""
    return _NOT_LETTERS.sub("", word).removeprefix("finishreason")


def failure_of(complaint: Complaint, shown: str) -> CompletionFailure:
    """A complaint as the failure of its request.

    Args:
        complaint: what the endpoint says.
        shown: its sentence, on one line and without secrets.
    """
    return CompletionFailure(complaint.kind, f"{complaint.status} {shown}".strip())


def _is_error(body: Mapping[str, Any]) -> bool:
    if body.get("choices"):
        return False
    return bool(body.get("error") or body.get("errors")) or body.get("object") == "error" or set(body) == {"detail"}


def _status(status: int, error: Any, words: str) -> int:
    """The status that is meant: gateways that answer 200 have it in the error, if anywhere."""
    if status == 400 and any(word in words.lower() for word in _BAD_KEY):
        return 401
    if status != 200:
        return status
    for code in _values_of("code", error, 0):
        if str(code).isdecimal() and 400 <= int(code) < 600:
            return int(code)
    lower = words.lower()
    if any(word in lower for word in _NOT_THERE):
        return 404
    return 429 if any(word in lower for word in _TOO_MANY) else 500


def _opened(value: Any) -> Any:
    """The value, or what a string holds that is JSON itself."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        yield from (("", part) for part in value)


def _sentences(value: Any, depth: int, name: str = "message") -> Iterator[str]:
    value = _opened(value)
    if isinstance(value, str):
        if name in _SENTENCES and value.strip():
            yield " ".join(value.split())
    elif depth < _DEEPEST:
        for key, part in _parts(value):
            yield from _sentences(part, depth + 1, key or name)


def _words(value: Any, depth: int) -> Iterator[str]:
    value = _opened(value)
    if isinstance(value, str):
        yield value
    elif depth < _DEEPEST:
        for _, part in _parts(value):
            yield from _words(part, depth + 1)


def _values_of(name: str, value: Any, depth: int) -> Iterator[Any]:
    value = _opened(value)
    if depth < _DEEPEST:
        for key, part in _parts(value):
            if key == name:
                yield part
            yield from _values_of(name, part, depth + 1)
