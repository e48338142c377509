"""A run's documents as evaluation searches them: read once, the texts on the disk, a few numbers each in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.errors import EvaluationError
from multigrain.records import Document, Split
from multigrain.sources.beir import join_title
from multigrain.sources.load import enough_titles
from multigrain.sources.words import fold_text
from multigrain.storage.sequences import DiskList, TextTable

_SPLITS: Final = tuple(Split)
_SAMPLED: Final = 1_000


class SearchedDocuments:
    """Documents by id: their texts, and which of them have one text, one title, one group or one side.

    Args:
        documents: gone through once.

    Attributes:
        texts: by id; on the disk.
        families: by id what a document belongs to with its near-duplicates, where they were looked for.

    Raises:
        EvaluationError: an id occurs twice.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.texts = TextTable()
        self._titles: DiskList[str | None] = DiskList()
        self._groups, self._splits = array("q"), array("b")
        text_keys, title_keys, titled = array("Q"), array("Q"), array("q")
        joined_keys = array("Q")
        for number, document in enumerate(documents):
            if not self.texts.add(document.id, document.text):
                raise EvaluationError(f"document id {document.id!r} occurs twice; make ids unique")
            title = document.title if document.title and document.title.strip() else None
            self._titles.append(title)
            self._groups.append(document.group)
            self._splits.append(_SPLITS.index(document.split))
            text_keys.append(text_key(document.text))
            if title is not None:
                title_keys.append(text_key(title))
                joined_keys.append(text_key(join_title(title, document.text)))
                titled.append(number)
        self.families: Mapping[str, str] = _Families(self.texts, self._groups)
        self._ids: list[str] | None = None
        self._text_keys, self._title_keys, self._titled = text_keys, title_keys, titled
        self._joined_keys = joined_keys

    def count(self, split: Split) -> int:
        """How many documents a side has."""
        return self._splits.count(_SPLITS.index(split))

    def of_split(self, split: Split) -> Iterator[tuple[str, str | None]]:
        """Id and title of each document of a side, in order; a title of spaces is none."""
        wanted = _SPLITS.index(split)
        for identifier, title, side in zip(self.texts, self._titles, self._splits, strict=True):
            if side == wanted:
                yield identifier, title

    def titles_suffice(self, splits: Sequence[Split]) -> bool:
        """Whether the documents of some sides have titles enough to ask with."""
        sides = np.isin(np.asarray(self._splits), [_SPLITS.index(split) for split in splits])
        titled = np.asarray(self._titled, dtype=np.int64)
        return enough_titles(int(sides[titled].sum()), int(sides.sum()))

    def same_text(self, identifier: str) -> list[str]:
        """The documents with a document's text, its own among them, in order."""
        key = self._text_keys[self.texts.number(identifier)]
        return [self._id(place) for place in _equal(*self._by_text, key)]

    def with_title(self, words: str) -> list[str]:
        """The documents whose title is these words, in order."""
        return [self._id(self._titled[place]) for place in _equal(*self._by_title, text_key(words))]

    def keys_of(self, split: Split) -> NDArray[np.uint64]:
        """Keys of the texts of a side; see `text_key`."""
        chosen: NDArray[np.bool_] = np.asarray(self._splits) == _SPLITS.index(split)
        keys: NDArray[np.uint64] = np.asarray(self._text_keys, dtype=np.uint64)[chosen]
        return keys

    def in_both_forms(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Keys of texts, and of those that are a document's with a title also that of title and text; rising.

        A labelled set has its documents with their titles before them, and a run without.

        Args:
            keys: of texts, see `text_key`; in any order.
        """
        titled = np.asarray(self._titled, dtype=np.int64)
        named = np.isin(np.asarray(self._text_keys, dtype=np.uint64)[titled], keys)
        return np.sort(np.concatenate([keys, np.asarray(self._joined_keys, dtype=np.uint64)[named]]))

    def _id(self, number: int) -> str:
        if self._ids is None:
            self._ids = list(self.texts)
        return self._ids[number]

    @cached_property
    def _by_text(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        return _sorted(self._text_keys)

    @cached_property
    def _by_title(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        return _sorted(self._title_keys)


class _Families(Mapping[str, str]):
    """By a document's id what it belongs to with its near-duplicates."""

    def __init__(self, texts: TextTable, groups: array[int]) -> None:
        self._texts, self._groups = texts, groups

    def __getitem__(self, identifier: str) -> str:
        group = self._groups[self._texts.number(identifier)]
        if group < 0:
            raise KeyError(identifier)
        return f"group {group}"

    def __iter__(self) -> Iterator[str]:
        return (identifier for identifier, group in zip(self._texts, self._groups, strict=True) if group >= 0)

    def __len__(self) -> int:
        return sum(group >= 0 for group in self._groups)


def sampled_texts(corpus: Mapping[str, str], count: int = _SAMPLED) -> list[str]:
    """Texts spread evenly over a corpus: all of them, or at least as many as are asked for."""
    return list(islice(corpus.values(), 0, None, max(1, len(corpus) // count)))


def texts_fingerprint(corpus: Mapping[str, str]) -> str:
    """A SHA-256 over ids and texts in their order; they go through memory one by one."""
    digest = hashlib.sha256()
    for parts in corpus.items():
        for raw in (part.encode("utf-8", "surrogatepass") for part in parts):
            digest.update(len(raw).to_bytes(8))
            digest.update(raw)
    return digest.hexdigest()


def text_key(text: str) -> int:
    """The same for texts that are the same but for case, accents and spaces; 64 bits, however long they are."""
    return int.from_bytes(hashlib.blake2b(fold_text(text).encode(), digest_size=8).digest())


def is_among(key: int, keys: NDArray[np.uint64]) -> bool:
    """Whether a key is one of some that rise."""
    place = int(np.searchsorted(keys, np.uint64(key)))
    return place < len(keys) and int(keys[place]) == key


def _sorted(keys: array[int]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Keys, rising, and their places."""
    values = np.asarray(keys, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    return values[order], order


def _equal(keys: NDArray[np.uint64], places: NDArray[np.int64], key: int) -> list[int]:
    """The places of a key, rising."""
    first, last = np.searchsorted(keys, np.uint64(key), "left"), np.searchsorted(keys, np.uint64(key), "right")
    found: list[int] = places[first:last].tolist()
    return found
