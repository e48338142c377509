"""The check of languages: whether a text is surely in another one than it should be."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from multigrain.audit.check import CheckedText, Problem
from multigrain.config import AuditConfig
from multigrain.records import SynthesizedRow
from multigrain.sources.language import identify, main_language

# Short English titles come out as another language one time in six, but never with less probability of English
# than this: of 2,254 package synopses two have less than .01, none less than .001.
_SURELY_NOT: Final = 0.005
_FEWEST_LETTERS: Final = 12


def check_query_language(row: SynthesizedRow, config: AuditConfig) -> Problem | None:
    """Whether a row's query is surely in another language than the row's."""
    return check_language(row.query, _languages(row, config))


def check_negative_language(checked: CheckedText) -> Problem | None:
    """Whether a negative is surely in another language than its row's."""
    return check_language(checked.text, _languages(checked.row, checked.limits))


def check_language(text: str, languages: Collection[str]) -> Problem | None:
    """Whether a text is surely in none of some languages.

    Args:
        text: the text; too short a one is never turned away.
        languages: ISO 639-1 codes.
    """
    if not languages or sum(character.isalpha() for character in text) < _shortest(text):
        return None
    shares = identify(text)
    if sum(shares.get(code, 0.0) for code in languages) >= _SURELY_NOT:
        return None
    best = max(shares, key=lambda code: shares[code])
    return Problem("wrong_language", f"reads as {best}, not as {' or '.join(sorted(languages))}")


def _languages(row: SynthesizedRow, config: AuditConfig) -> Collection[str]:
    """The languages that a row's texts may be in; empty for any."""
    if config.languages or row.document_id is None:
        return config.languages
    language = main_language(row.positive[:2000])
    return () if language is None else (language,)


def _shortest(text: str) -> int:
    # A word of Chinese or Japanese is a character or two.
    return 4 if any(ord(character) > 0x2E80 for character in text) else _FEWEST_LETTERS
