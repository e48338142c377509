"""The short words that artifacts carry, in words for people."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([MB])(?![A-Za-z0-9])", re.IGNORECASE)
_SMALL = 1e9


_ACTIONS = (
    (r"relevelled:(\d)>(\d)", r"written as level \1, measured as level \2"),
    (r"refilled:(\d)", r"level \1 filled from the documents"),
    (r"regenerated:(\d)", r"level \1 written again"),
    (r"selected:(\d)", r"level \1 selected among candidates"),
    (r"levelled:(\d)", r"given level \1 by its measured similarity"),
)


def action_words(action: str) -> str:
    """What the audit did to a row: "refilled:2" or "relevelled:1>3" as a phrase; other words as they are."""
    matches = ((re.fullmatch(pattern, action), words) for pattern, words in _ACTIONS)
    return next((match.expand(words) for match, words in matches if match), action)


def model_words(fingerprint: str) -> str:
    """A language model's fingerprint without the digits that tell files of one name, and what is sent to it, apart."""
    return re.sub(r"^(local:.+):[0-9a-f]{12}$", r"\1", re.sub(r"\+[0-9a-f]{12}$", "", fingerprint))


def model_size(fingerprint: str) -> str | None:
    """How many parameters a model has, where its name says so: "135 million"."""
    size = _SIZE.search(fingerprint)
    return None if size is None else f"{size[1]} {'million' if size[2] in 'mM' else 'billion'}"


def is_small_and_local(fingerprint: str) -> bool:
    """Whether the model ran in the process and has, by its name, fewer than a billion parameters."""
    size = _SIZE.search(fingerprint)
    if size is None or not fingerprint.startswith("local:"):
        return False
    return float(size[1]) * (1e6 if size[2] in "mM" else 1e9) < _SMALL
