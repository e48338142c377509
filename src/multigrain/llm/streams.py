"""Answers that an endpoint streams although nobody asked it to: put together to the one that was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from multigrain.storage.text import text_lines

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")


def read_stream(text: str) -> dict[str, Any] | None:
    """The chat completion that server-sent events add up to, or the error among them; None where there are no events.

    A stream that breaks off, without a reason to end and without its last mark, is no answer: its finish_reason is
    "length", as that of an answer that was cut.

    Args:
        text: the body of the answer; untrusted.
    """
    if text.lstrip().startswith("{"):
        return _before_the_mark(text.lstrip())
    if not text.lstrip().startswith(("data:", "event:", "id:", ":")):
        return None
    answer: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant"}
    finish, events = None, 0
    for event in _events(text):
        events += 1
        if event.get("error"):
            return dict(event)
        answer |= {name: event[name] for name in ("model", "usage") if event.get(name)}
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        delta = choice.get("delta", choice.get("message")) if isinstance(choice, Mapping) else None
        if not isinstance(delta, Mapping):
            continue
        for name in _TEXTS:
            if isinstance(delta.get(name), str):
                message[name] = message.get(name, "") + delta[name]
        finish = choice.get("finish_reason") or finish
    if not events:
        return None
    ended = finish or ("stop" if text.rstrip().endswith("[DONE]") else "length")
    return {**answer, "choices": [{"index": 0, "message": message, "finish_reason": ended}]}


def _before_the_mark(text: str) -> dict[str, Any] | None:
    """A whole answer behind which a gateway has put a stream's last mark."""
    try:
        answer, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and text[end:].strip() == "data: [DONE]" else None


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text_lines(text):
        if not line.startswith("data:"):
            continue
        try:
            event = json.loads(line.removeprefix("data:"))
        except (ValueError, RecursionError):
            continue  # [DONE], or the piece that the connection broke in
        if isinstance(event, Mapping):
            yield event
