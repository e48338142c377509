"""Long documents as chunks that overlap, cut at paragraphs and sentences as far as lengths allow; or cut short."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, cast

from multigrain.records import Document
from multigrain.sources.words import count_words

_WORD_REACH: Final = 100
_LAST_SPACE: Final = re.compile(r"\s\S*\Z")


def chunk_document(
    document: Document,
    *,
    size: int,
    unit: Literal["words", "characters"],
    overlap: float,
    min_characters: int,
) -> list[Document]:
    """Cut a document into chunks; one that is no longer than a chunk stays as it is.

    A chunk has the id `ID#N` (from 1) and the document's title. In scripts without spaces each character is a word.

    Args:
        document: the document.
        size: longest chunk, in the unit. A single word that is longer is not cut by the unit "words".
        unit: what lengths are counted in.
        overlap: share of a chunk that the next one repeats, 0-1.
        min_characters: a last chunk shorter than this is joined to the one before.
    """
    from semchunk.semchunk import chunkerify

    count: Callable[[str], int] = count_words if unit == "words" else len
    if count(document.text) <= size:
        return [document]
    limit = size
    while True:
        # No memory of counts: it would keep every text it has seen.
        chunker = chunkerify(count, limit, memoize=False)
        _, offsets = cast(
            "tuple[Any, list[tuple[int, int]]]", chunker(document.text, overlap=overlap or None, offsets=True)
        )
        spans = [(start, end) for start, end in offsets if document.text[start:end].strip()]
        # Where chunks overlap, semchunk does not count the spaces between the parts that it joins.
        excess = max(count(document.text[start:end].strip()) for start, end in spans) - size
        if excess <= 0 or limit == 1:
            break
        limit = max(1, limit - excess)
    if len(spans) > 1 and spans[-1][1] - spans[-1][0] < min_characters:
        spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return [
        replace(document, id=f"{document.id}#{number}", text=document.text[start:end].strip())
        for number, (start, end) in enumerate(spans, start=1)
    ]


def cut_text(text: str, characters: int) -> str:
    """The start of a text: at most so many characters, up to the end of a word where one ends near there."""
    if len(text) <= characters:
        return text
    # No further back: in a script without spaces the last white space may be the line end behind the title.
    nearest = characters - min(_WORD_REACH, characters // 10)
    space = _LAST_SPACE.search(text[nearest : characters + 1])
    return text[: nearest + space.start() if space else characters].rstrip()
