"""The short words that artifacts carry, in words for people."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([MB])(?![A-Za-z0-9])", re.IGNORECASE)
_SMALL = 1e9


def action_words(action: str) -> str:
    """What the audit did to a row: "refilled:2" or "relevelled:1>3" as a phrase; other words as they are."""
    if moved := re.fullmatch(r"relevelled:(\d)>(\d)", action):
        return f"written as level {moved[1]}, measured as level {moved[2]}"
    if filled := re.fullmatch(r"refilled:(\d)", action):
        return f"level {filled[1]} filled from the documents"
    if again := re.fullmatch(r"regenerated:(\d)", action):
        return f"level {again[1]} written again"
    if chosen := re.fullmatch(r"selected:(\d)", action):
        return f"level {chosen[1]} selected among candidates"
    if levelled := re.fullmatch(r"levelled:(\d)", action):
        return f"given level {levelled[1]} by its measured similarity"
    return action


def model_words(identity: str) -> str:
    """A language model's identity without the marks that tell files of one name, and what is sent to it, apart."""
    return re.sub(r"^(local:.+):[0-9a-f]{12}$", r"\1", re.sub(r"\+[0-9a-f]{12}$", "", identity))


def model_size(identity: str) -> str | None:
    """How many parameters a model has, where its name says so: "135 million"."""
    found = _SIZE.search(identity)
    return None if found is None else f"{found[1]} {'million' if found[2] in 'mM' else 'billion'}"


def is_small_and_local(identity: str) -> bool:
    """Whether the model ran in the process and has, by its name, fewer than a billion parameters."""
    found = _SIZE.search(identity)
    if found is None or not identity.startswith("local:"):
        return False
    return float(found[1]) * (1e6 if found[2] in "mM" else 1e9) < _SMALL
