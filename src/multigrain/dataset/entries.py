"""What stands in lists of training files: texts, passages, conversations. Anything else is an error with its place."""

from __future__ import annotations

from typing import Any

from multigrain.errors import SourceError


def text_of(entry: Any, at: str) -> str:
    """An entry that must be a text.

    Args:
        entry: from a list of a row; untrusted.
        at: begins errors: its row and field.

    Raises:
        SourceError: it is of another kind.
    """
    if not isinstance(entry, str):
        raise SourceError(f"{at} must hold texts, got {shown(entry)} in it")
    return entry


def passage_text(entry: Any, at: str) -> str:
    """The text of a passage {docid, title, text}, behind its title where it has one.

    Args:
        entry: from a list of a row; untrusted.
        at: begins errors: its row and field.

    Raises:
        SourceError: it is of another kind.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise SourceError(f"{at} must hold objects with a `text`, got {str(entry)[:40]!r}")
    title = entry.get("title")
    if title is not None and not isinstance(title, str):
        raise SourceError(f"{at} holds a title that is no text: {str(title)[:40]!r}")
    return f"{title} {entry['text']}".strip() if title else str(entry["text"])


def has_system_message(messages: Any) -> bool:
    """Whether a conversation begins with, or holds, a system message."""
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("role") == "system" for message in messages
    )


def last_content(messages: Any, at: str) -> str:
    """What is embedded of a conversation without an answer: its user's words.

    Args:
        messages: a list of {role, content}; untrusted.
        at: begins errors: its row and field.

    Raises:
        SourceError: it is no list of messages, or its last one is no text.
    """
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise SourceError(f"{at} must be a list of {{role, content}} messages, got {str(messages)[:40]!r}")
    content = messages[-1].get("content")
    if not isinstance(content, str):
        raise SourceError(f"{at} holds a message whose content is no text: {str(content)[:40]!r}")
    return content


def shown(value: Any) -> str:
    """A value of the wrong kind, for messages: its kind and its beginning."""
    if value is None:
        return "nothing"
    return f"{'a text' if isinstance(value, str) else type(value).__name__} {str(value)[:40]!r}"
