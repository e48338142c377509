"""Does llama.cpp read texts into the tokens that the model was trained on?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, Protocol

from multigrain.errors import ExportError
from multigrain.export.parity import PARITY_TEXTS

SCRIPTS: Final = {
    "Bengali": "বাংলা ভাষা একটি ইন্দো-আর্য ভাষা।",
    "Chinese": "这个模型把文本变成向量。",
    "decomposed accents": "un cafe\u0301 nai\u0308f",
    "Greek": "Ελληνικά κείμενα, ὑπέρ",
    "Hebrew": "שָׁלוֹם עולם",
    "Hindi": "यह हिन्दी में एक वाक्य है।",
    "Korean": "이것은 한국어 문장입니다.",
    "spaces of other widths": "a\u00a0b\u3000c\u2003d\r\n\r\n\te",
    "Tamil": "தமிழ் ஒரு செம்மொழி.",
    "Thai": "นี่คือประโยคภาษาไทย",
    "Vietnamese": "Tiếng Việt: đường phố Hà Nội",
    "words of more than 100 letters": "x" * 101,
}
"""What llama.cpp's tokenizers are known to read otherwise, and scripts that a model may never meet."""

_OWN_SAMPLE: Final = 2000
_OWN_SHARE: Final = 0.01


class Reader(Protocol):
    """What turns a text into tokens."""

    def tokens(self, text: str) -> list[int]:
        """The numbers of a text's tokens, special ones included."""
        ...


def check_tokens(reader: Reader, tokenizer: Any, own: Sequence[str] = ()) -> list[str]:
    """Compare llama.cpp's tokens with the tokenizer's.

    Args:
        reader: llama.cpp.
        tokenizer: the model's.
        own: queries and documents that the model is measured on; the first 2,000 are compared.

    Returns:
        The names of `SCRIPTS` that llama.cpp reads otherwise: no reason to refuse where a model serves none of them.

    Raises:
        ExportError: one of `PARITY_TEXTS` is read otherwise, or more than one in a hundred of `own`.
    """
    for text in PARITY_TEXTS:
        problem = _difference(reader, tokenizer, text)
        if problem:
            raise ExportError(f"{problem}; nothing was exported, --to onnx keeps the model's tokenizer")
    sample = list(own[:_OWN_SAMPLE])
    found = [problem for problem in (_difference(reader, tokenizer, text) for text in sample) if problem]
    if len(found) > _OWN_SHARE * len(sample):
        raise ExportError(
            f"{found[0]}; so it is with {len(found)} of {len(sample)} texts of your sets; nothing was exported, "
            "--to onnx keeps the model's tokenizer"
        )
    return [name for name, text in SCRIPTS.items() if _difference(reader, tokenizer, text)]


def own_texts(sets: Iterable[Any]) -> list[str]:
    """Queries and documents of sets, in turn."""
    texts = [text for one in sets for pair in (one.queries, one.corpus) for text in islice(pair.values(), _OWN_SAMPLE)]
    return texts[:: max(1, len(texts) // _OWN_SAMPLE)]


def _difference(reader: Reader, tokenizer: Any, text: str) -> str | None:
    ours, theirs = tokenizer(text, truncation=False, verbose=False)["input_ids"], reader.tokens(text)
    if ours == theirs:
        return None
    place = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    place = min(len(ours), len(theirs)) if place is None else place
    names = [tokenizer.convert_ids_to_tokens(ids[place : place + 3]) for ids in (ours, theirs)]
    return f"llama.cpp reads {text[:60]!r} otherwise: {names[1]} where the model's tokenizer has {names[0]}"
