"""Which second document a query may need: the next chunk of the same one, or the nearest other document in words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import numpy as np

from multigrain.records import Document, SynthesizedRow
from multigrain.sources.terms import search_terms, stop_words_of
from multigrain.storage.sequences import View
from multigrain.synthesis.strategies.protocol import WritingUnit

MULTI_PASSAGE: Final = "multi-passage"
"""The kind of query that needs two documents."""

_CHUNK: Final = re.compile(r"(?P<document>.+)#(?P<number>\d+)")
_WORDS_ASKED: Final = 64  # of a document, to find its neighbour by
_LOOKED_AT: Final = 20


class Partners:
    """Finds each document a second one that belongs with it; nothing is read or indexed before one is asked for.

    Args:
        documents: all that may be written for.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._found: dict[int, int | None] = {}

    def of(self, place: int) -> Document | None:
        """The partner of the document at a place; None where no other one shares a word with it."""
        if place not in self._found:
            document = self._documents[place]
            self._found[place] = self._sibling(document) if _CHUNK.fullmatch(document.id) else None
            if self._found[place] is None:
                self._found[place] = self._nearest(place, document)
        partner = self._found[place]
        return None if partner is None else self._documents[partner]

    def _sibling(self, document: Document) -> int | None:
        name = _CHUNK.fullmatch(document.id)
        assert name is not None  # noqa: S101 - asked by the caller
        number = int(name["number"])
        ids = (f"{name['document']}#{number + step}" for step in (1, -1))
        return next((self._places[key] for key in ids if key in self._places), None)

    def _nearest(self, place: int, document: Document) -> int | None:
        index = self._index
        if index is None or len(self._documents) < 2:
            return None
        words = [word for word in self._words(document)[:_WORDS_ASKED] if word in index.vocab_dict]
        if not words:
            return None
        scores = np.asarray(index.get_scores(words), dtype=np.float32)
        best = np.argsort(-scores, kind="stable")[:_LOOKED_AT].tolist()
        groups = self._groups
        near = (other for other in best if scores[other] > 0 and other != place)
        # A near-duplicate adds nothing that a query could need.
        return next((other for other in near if groups[other] != document.group or document.group < 0), None)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {document.id: place for place, document in enumerate(self._documents)}

    @cached_property
    def _groups(self) -> list[int]:
        return [document.group for document in self._documents]

    @cached_property
    def _index(self) -> Any:
        import bm25s

        words = [self._words(document) for document in self._documents]
        if not any(words):
            return None  # bm25s cannot index a corpus without a single word
        index = bm25s.BM25()
        index.index(words, show_progress=False)
        return index

    @cached_property
    def _stop_words(self) -> frozenset[str]:
        return stop_words_of(View(self._documents, attrgetter("text")))

    def _words(self, document: Document) -> list[str]:
        return search_terms(document.text, self._stop_words)


def rows_of(unit: WritingUnit, row: SynthesizedRow) -> list[SynthesizedRow]:
    """A row as it is trained on: for a query that two documents answer, a row for each of them.

    Args:
        unit: what the row was written from.
        row: as it was written.
    """
    other = unit.other
    if other is None or row.positive != unit.document.text:  # a written positive answers alone
        return [row]
    identifier = hashlib.sha256(f"{row.id}\x1f{other.id}".encode()).hexdigest()[:16]
    second = replace(
        row,
        id=identifier,
        document_id=other.id,
        positive=other.text,
        relevant_ids=(unit.document.id, *(key for key in row.relevant_ids if key != other.id)),
    )
    return [row, second]
