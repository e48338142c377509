"""A first look at the documents: how long they are, in which language, and which settings follow from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from multigrain.config import DocumentsConfig
from multigrain.errors import MultigrainError
from multigrain.sources.language import main_language
from multigrain.sources.source import data_source
from multigrain.sources.words import count_words

LOOKED_AT: Final = 50
_CHARACTERS: Final = 2000  # of a document, to tell its language by
_TOKENS_A_WORD: Final = 1.4
READ_TOKENS: Final = 256  # what all-MiniLM-L6-v2 reads of a text, and more than half of all base models' limit
_CHUNK_WORDS: Final = 180  # as many tokens, about
_LENGTHS: Final = (64, 128, 256)
_MOSTLY: Final = 0.8
_SEVERAL: Final = 0.1

_NAMES: Final = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nb": "Norwegian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Settings that suit the documents, and why.

    Attributes:
        settings: by section.
        reasons: one line each, by "SECTION.KEY".
        notes: what else somebody should know.
    """

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def look_at_first_documents(config: DocumentsConfig, *, base_model: str = "auto") -> Suggestions:
    """Read the first 50 documents and suggest settings; nothing is suggested where they cannot be read at once.

    Args:
        config: names the documents.
        base_model: the model that is tuned; auto reads English alone.
    """
    try:
        view = data_source(config).glance(config)
        if isinstance(view, str):
            return Suggestions()
        texts = [text for text in islice(view[0], LOOKED_AT) if len(text.strip()) >= config.min_characters]
    except MultigrainError:
        return Suggestions()
    return suggest(texts, base_model=base_model) if texts else Suggestions()


def suggest(texts: Sequence[str], *, base_model: str = "auto") -> Suggestions:
    """Settings that suit some documents.

    Args:
        texts: of the documents, at least one.
        base_model: the model that is tuned; auto reads English alone.
    """
    words = sorted(map(count_words, texts))
    tokens = [round(count * _TOKENS_A_WORD) for count in words]
    long = sum(count > READ_TOKENS for count in tokens)
    settings: dict[str, dict[str, Any]] = {"documents": {}, "synthesis": {}, "training": {}}
    reasons: dict[str, str] = {}
    if long > _SEVERAL * len(texts):
        settings["documents"]["chunk_size"] = _CHUNK_WORDS
        reasons["documents.chunk_size"] = (
            f"Words a chunk. {long} of {len(texts)} documents are longer than the {READ_TOKENS} tokens a model reads."
        )
        tokens = [min(count, READ_TOKENS) for count in tokens]
    nearly_all = tokens[int(0.95 * (len(tokens) - 1))]
    length = next((length for length in _LENGTHS if nearly_all <= length), _LENGTHS[-1])
    settings["training"]["max_seq_length"] = length
    share = f"{sum(count <= length for count in tokens)} of {len(texts)}"
    what = "chunks fit" if settings["documents"] else f"{share} documents fit"
    reasons["training.max_seq_length"] = f"Tokens read from each text while training: {what}. Shorter is faster."
    notes = _languages(texts, base_model, settings, reasons)
    return Suggestions({name: values for name, values in settings.items() if values}, reasons, notes)


def _languages(
    texts: Sequence[str], base_model: str, settings: dict[str, dict[str, Any]], reasons: dict[str, str]
) -> tuple[str, ...]:
    """Add the language of queries where it is clear and not English, and say what a base model must then know."""
    found = Counter(filter(None, (main_language(text[:_CHARACTERS]) for text in texts)))
    if not found:
        return ()
    code, count = found.most_common(1)[0]
    name = _NAMES.get(code, code)
    if count >= _MOSTLY * found.total():
        if code == "en":
            return ()
        if code in _NAMES:
            settings["synthesis"]["languages"] = {name: 1.0}
            reasons["synthesis.languages"] = f"{count} of {len(texts)} documents are in {name}."
        seen = f"the documents are in {name}"
    else:
        seen = f"the documents are in several languages ({', '.join(code for code, _ in found.most_common(3))})"
    if base_model != "auto":
        return ()
    return (f"{seen}, and all-MiniLM-L6-v2 reads English only; `multigrain init --recipe multilingual` fits better",)
