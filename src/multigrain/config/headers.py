"""HTTP headers in the config: which there may be, and where their values come from."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VARIABLE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_OWN: Final = frozenset({"content-length", "content-type", "transfer-encoding"})
_SECRET: Final = re.compile(
    r"key|token|secret|passw|credential|cookie|signature|(?:^|[-_])auth(?:$|[-_]|orization|entication)", re.IGNORECASE
)
"""What is in the names of headers that hold secrets: every gateway has a name of its own."""


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers, if they can be sent and hold no secret.

    Raises:
        ValueError: one line that says what is wrong. It never has a value.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header: use letters, digits and hyphens")
        if name.lower() in _OWN:
            raise ValueError(f"multigrain sets {name} itself; leave it out")
        if value.startswith("env:") and named_variable(value) is None:
            raise ValueError(f"the value of {name} names no environment variable: write env:NAME")
        if _SECRET.search(name) and named_variable(value) is None:
            raise ValueError(f"{name} seems to hold a secret, which does not belong in this file: write env:NAME")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} has signs that no header can have")
    return headers


def named_variable(value: str) -> str | None:
    """The environment variable that a header's value is read from; None for a value that stands for itself."""
    found = _VARIABLE.fullmatch(value)
    return None if found is None else found[1]
