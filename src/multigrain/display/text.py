"""Texts from anywhere, made safe to show on a line, in a terminal or on a page."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_PICTURES: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {127: 0x2421}
_USER: Final = re.compile(r"://[^/\s@]+@")
_QUERY: Final = re.compile(r"(?<=://)([^\s'\"?]*\?)([^\s'\"]+)")
# A name does not say for sure whether a value is secret: all are hidden but those too short to be one.
_VALUE: Final = re.compile(r"(?i)(?<![\w.-])(?!api-version=)([\w.-]+=)[^&#]{4,}")


def one_line(text: str, limit: int | None = None) -> str:
    """A text on one line without control characters, so that it can neither steer a terminal nor turn words around.

    Args:
        text: from anywhere.
        limit: characters to keep; a cut is marked by an ellipsis.
    """
    spaced = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    line = " ".join(spaced.split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def excerpt(text: str, limit: int) -> str:
    """The beginning of a text with single spaces, cut between words.

    Args:
        text: from anywhere.
        limit: characters to keep; a cut is marked by an ellipsis.
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[:limit].rsplit(" ", 1)[0] + " …"


def first_line(error: BaseException) -> str:
    """The first line of an error that is not blank; its type's name where there is none."""
    lines = (one_line(line) for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def visible(text: str) -> str:
    """A text with control characters as their pictures; browsers would drop them or replace them silently."""
    return text.translate(_PICTURES)


def unbroken(text: str) -> str:
    """A text with spaces that no browser breaks a line at."""
    return text.replace(" ", "\u00a0")


def without_credentials(text: str) -> str:
    """A text in which addresses have neither a user and password nor values of query parameters."""
    text = _USER.sub("://…@", text)
    return _QUERY.sub(lambda query: query[1] + _VALUE.sub(r"\1…", query[2]), text)
