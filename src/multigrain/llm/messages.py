"""The message of a chat completion: a text, parts, or something in another field; and thoughts set apart from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from multigrain.llm.protocol import CompletionFailure

_THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking")
_THINKING_PARTS: Final = ("thinking", "reasoning", "redacted_thinking", "thought", "summary_text")
_SHOWN_THOUGHTS: Final = 2000


def read_message(message: Mapping[str, Any]) -> tuple[str, str]:
    """The text of an answer's message, and what the endpoint set apart as thoughts.

    A message that has thoughts and no text is given as thoughts that come to no end.

    Raises:
        CompletionFailure: the content is neither text, nor parts, nor nothing ("malformed").
    """
    content = message.get("content")
    thoughts = "".join(text for name in _THOUGHTS if isinstance(text := message.get(name), str))
    if isinstance(content, str):
        text = content
    elif isinstance(content, list | Mapping):
        parts = content if isinstance(content, list) else [content]
        text = "".join(_text(part) for part in parts)
        thoughts += "".join(_thought(part) for part in parts)
    elif content is None:
        text = ""
    else:
        raise CompletionFailure("malformed", f"content of type {type(content).__name__}")
    if text.strip():
        return text, thoughts
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        return refusal, thoughts
    other = next((found for found in _elsewhere(message, thoughts) if found), "")
    return other or (f"<think>{thoughts[:_SHOWN_THOUGHTS]}" if thoughts.strip() else text), thoughts


def _text(part: Any) -> str:
    """The text of one part of a content; of a part that is no text, none."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or _is_thought(part):
        return ""
    text = part.get("text", part.get("refusal"))
    if isinstance(text, Mapping):
        text = text.get("value")
    return text if isinstance(text, str) else ""


def _is_thought(part: Mapping[str, Any]) -> bool:
    return part.get("type") in _THINKING_PARTS or part.get("thought") is True


def _thought(part: Any) -> str:
    """What a part of a content holds of thoughts."""
    if not isinstance(part, Mapping) or not _is_thought(part):
        return ""
    for name in ("thinking", "reasoning", "text", "summary"):
        value = part.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return "".join(_text(inner) for inner in value)
    return " "  # it thought, and the endpoint does not show what


def _elsewhere(message: Mapping[str, Any], thoughts: str) -> Iterator[str]:
    """JSON that a message without content may hold as its answer: among the thoughts, or as a call of a function."""
    if thoughts.lstrip().startswith(("{", "```")):
        yield thoughts
    parsed = message.get("parsed")
    if isinstance(parsed, Mapping):
        yield json.dumps(parsed, ensure_ascii=False)
    calls = message.get("tool_calls")
    for call in [*(calls if isinstance(calls, list) else []), {"function": message.get("function_call")}]:
        function = call.get("function") if isinstance(call, Mapping) else None
        arguments = function.get("arguments") if isinstance(function, Mapping) else None
        if isinstance(arguments, Mapping):
            yield json.dumps(arguments, ensure_ascii=False)
        elif isinstance(arguments, str):
            yield arguments
