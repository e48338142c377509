"""The short words that artifacts carry, in words for people."""

from __future__ import annotations

import re

__all__ = ["action_words", "is_small_and_local", "model_size", "model_words", "reason_words"]

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([MB])(?![A-Za-z0-9])", re.IGNORECASE)
_SMALL = 1e9

_REASONS = {
    "contaminated": "an evaluation set holds it too",
    "copied_document": "copied from the document",
    "copied_query": "repeats the query",
    "duplicate_query": "another row has the same query",
    "empty": "nothing was written",
    "false_negative": "too close to the positive: may be an answer too",
    "judged_positive": "the judge does not find the answer in its document",
    "marked_bad": "marked bad by a reader",
    "near_duplicate": "nearly the same as another row",
    "no_level": "its similarity falls in no free level",
    "no_negative": "no negative found for some level",
    "prompt_echo": "repeats the instructions",
    "reasoning": "the model did not come to the end of its reasoning",
    "refusal": "the model refused",
    "repeated": "same text at another level",
    "repetition": "says the same again and again",
    "round_trip": "the query does not find its own document",
    "schema": "not in the form of a row",
    "too_long": "too long",
    "too_short": "too short",
    "wrong_language": "in another language",
}


def reason_words(reason: str) -> str:
    """Why the audit turned something away, or why synthesis wrote nothing."""
    return _REASONS.get(reason, reason.replace("_", " "))


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
