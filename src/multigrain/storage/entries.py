"""What stands in lists of training files: texts, passages, conversations. Anything else is an error with its place."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import partial
from io import StringIO
from token import STRING
from tokenize import TokenError, generate_tokens
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.columns import CONTEXT, POSITIVE, QUERY, Column

_PLURAL: Final = ("s", "pos", "neg")


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


def is_plural(column: str) -> bool:
    """Whether a column's name promises several texts a row, such as "positives" or "neg_2"."""
    return column.lower().rstrip("0123456789_").endswith(_PLURAL)


def is_printed_list(value: Any) -> bool:
    """Whether a text looks like a list of texts as JSON, Python or numpy print it."""
    return isinstance(value, str) and value.startswith(("['", '["')) and value.endswith(("']", '"]'))


def list_in(value: Any, column: str, at: str) -> Any:
    """The list that a cell of a text file shows, as JSON, Python or numpy print it; any other value as it is.

    A column whose name is in the singular holds a text, whatever it looks like.

    Args:
        value: the cell; untrusted.
        column: its column, such as "positives" or "neg_2".
        at: begins errors: its row and field.

    Raises:
        SourceError: numpy left entries out of what it printed.
    """
    if not (isinstance(value, str) and is_plural(column)):
        return value
    if not (value.startswith("[") and value.endswith("]")):
        return value
    for parse in (json.loads, partial(_parts, at=at)):
        try:
            found = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TokenError):
            continue
        if isinstance(found, list) and all(isinstance(entry, str) for entry in found):
            return found
    return value


def _parts(text: str, *, at: str) -> Any:
    """A list as Python prints it, or as numpy does, without commas, which Python would read as one text."""
    tokens = [token for token in generate_tokens(StringIO(text).readline) if token.string.strip()]
    kinds = [token.type for token in tokens[1:-1]]
    if STRING in kinds and all(kind == STRING for kind in kinds):
        return [ast.literal_eval(token.string) for token in tokens[1:-1]]
    if STRING in kinds and [token.string for token in tokens[1:-1] if token.type != STRING] == ["..."]:
        raise SourceError(
            f"{at} is a list that numpy cut short when it printed it ('...'): write the table as Parquet"
        )
    return ast.literal_eval(text)


def positive_column(values: Mapping[str, Any], column: Column = POSITIVE) -> str | None:
    """The column of a row's positive: a context only where it holds text, or where there is no other.

    Args:
        values: the row's.
        column: the names that it may have.
    """
    names = column.all_among(values)
    fit = (name for name in names if CONTEXT.among([name]) is None or _holds_text(values[name]))
    return next(fit, names[0] if names else None)


def pair_columns(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """The columns of a row that hold a query and what answers it; None where it lacks one of them."""
    query, positive = QUERY.among(values), positive_column(values)
    return None if query is None or positive is None else (query, positive)


def _holds_text(value: Any) -> bool:
    """Whether a cell holds a text that is not empty, or a list of texts and passages with one in it."""
    entries = value if isinstance(value, list) else [value]
    texts = [entry.get("text") if isinstance(entry, dict) else entry for entry in entries]
    return all(text is None or isinstance(text, str) for text in texts) and any(
        text and text.strip() not in ("", "[]") for text in texts
    )


def has_system_message(messages: Any) -> bool:
    """Whether a conversation begins with, or holds, a system message."""
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("role") == "system" for message in messages
    )


def has_earlier_turns(messages: Any) -> bool:
    """Whether a conversation holds more than the one message that is embedded, besides system messages."""
    return isinstance(messages, list) and (
        sum(isinstance(message, dict) and message.get("role") != "system" for message in messages) > 1
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
