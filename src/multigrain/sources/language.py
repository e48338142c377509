"""In which language a text is, as far as a classifier of short texts can be sure of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final

_SURELY: Final = 0.8


@lru_cache(maxsize=1024)
def main_language(text: str) -> str | None:
    """The language of a passage by its ISO 639-1 code, or None where that is not clear."""
    shares = identify(text)
    best = max(shares, key=lambda code: shares[code])
    return best if shares[best] >= _SURELY else None


def identify(text: str) -> Mapping[str, float]:
    """Probabilities by language code."""
    return {code: float(share) for code, share in _identifier().rank(text.replace("\x00", " "))}


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
