"""Long documents as chunks that overlap, cut at paragraphs and sentences as far as their lengths allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from multigrain.records import Document
from multigrain.sources.grouping import count_words

__all__ = ["chunk_document"]


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
    # No memory of counts: it would keep every text it has seen.
    chunker = chunkerify(count, size, memoize=False)
    found: Any = chunker(document.text, overlap=overlap or None, offsets=True)
    spans: list[tuple[int, int]] = [(start, end) for start, end in found[1] if document.text[start:end].strip()]
    if len(spans) > 1 and spans[-1][1] - spans[-1][0] < min_characters:
        spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return [
        replace(document, id=f"{document.id}#{number}", text=document.text[start:end].strip())
        for number, (start, end) in enumerate(spans, start=1)
    ]
