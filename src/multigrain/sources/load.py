"""From a config to the run's documents: read, clean, sample, group near-duplicates, split."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import Document, Split
from multigrain.sources.docstrings import docstrings_fingerprint, read_docstrings
from multigrain.sources.files import files_fingerprint, read_files
from multigrain.sources.grouping import near_duplicate_groups, normalise

__all__ = ["Corpus", "load_corpus", "prepare_corpus", "read_documents", "source_fingerprint"]

_MIN_DOCUMENTS = 10
_FEWEST_GROUPS = 2


@dataclass(frozen=True)
class Corpus:
    """The run's documents, each with its group and split, and what was done to get them.

    Attributes:
        documents: in a stable order.
        counts: documents, train, validation, test, groups, too_short, repeated, cut, source.
    """

    documents: tuple[Document, ...]
    counts: dict[str, int | str]

    def of(self, split: Split) -> tuple[Document, ...]:
        """The documents of one split."""
        return tuple(document for document in self.documents if document.split is split)


def load_corpus(config: DocumentsConfig, *, seed: int) -> Corpus:
    """Read and prepare the documents that a config names.

    Raises:
        SourceError: they cannot be read, or too few are usable.
    """
    return prepare_corpus(read_documents(config), config, seed=seed)


def read_documents(config: DocumentsConfig) -> list[Document]:
    """Read the documents that a config names, as they are.

    Raises:
        SourceError: they cannot be read.
    """
    if config.kind == "docstrings":
        return read_docstrings()
    return read_files(config)


def source_fingerprint(config: DocumentsConfig) -> str:
    """Changes when the files or packages behind `read_documents` do; reads no content.

    Raises:
        SourceError: the path is missing.
    """
    if config.kind == "docstrings":
        return docstrings_fingerprint()
    return files_fingerprint(config)


def prepare_corpus(documents: Sequence[Document], config: DocumentsConfig, *, seed: int) -> Corpus:
    """Clean, sample, group and split documents.

    The split is a hash of the text alone: a document keeps its side when the corpus grows or the seed changes.

    Raises:
        SourceError: fewer than 10 usable documents, or a split that came out empty.
    """
    usable, dropped = _clean(documents, config)
    source = str(config.path) if config.kind != "docstrings" else "docstrings of installed packages"
    if len(usable) < _MIN_DOCUMENTS:
        raise SourceError(
            f"{source}: {len(usable)} usable documents of {len(documents)} read ({dropped['too_short']} shorter than "
            f"documents.min_characters={config.min_characters}, {dropped['repeated']} repeated); "
            f"at least {_MIN_DOCUMENTS} are needed"
        )
    if config.limit is not None and len(usable) > config.limit:
        chosen = set(random.Random(seed).sample(range(len(usable)), config.limit))
        usable = [document for position, document in enumerate(usable) if position in chosen]
    groups = near_duplicate_groups(usable, config.near_duplicate_similarity)
    sides = _sides(usable, groups, config)
    split = [
        replace(document, group=group, split=sides[group]) for document, group in zip(usable, groups, strict=True)
    ]
    count = Counter(document.split for document in split)
    if not count[Split.TRAIN]:
        raise SourceError(
            f"{source}: all {len(split)} documents fell on the validation and test sides, none is left to train on; "
            "give more documents, or lower documents.validation_share and documents.test_share"
        )
    counts: dict[str, int | str] = {
        "documents": len(split),
        **{str(side): count[side] for side in Split},
        "groups": len(set(groups)),
        **dropped,
        "source": source,
    }
    return Corpus(tuple(split), counts)


def _clean(documents: Sequence[Document], config: DocumentsConfig) -> tuple[list[Document], dict[str, int]]:
    counts = {"too_short": 0, "repeated": 0, "cut": 0}
    seen: set[str] = set()
    usable = []
    for document in documents:
        text = _storable(document.text).strip()
        if len(text) < config.min_characters:
            counts["too_short"] += 1
            continue
        key = normalise(text)
        if key in seen:
            counts["repeated"] += 1
            continue
        seen.add(key)
        if len(text) > config.max_characters:
            counts["cut"] += 1
            text = text[: config.max_characters].rsplit(maxsplit=1)[0]
        title = _storable(document.title).strip() or None if document.title is not None else None
        usable.append(replace(document, id=_storable(document.id), text=text, title=title))
    return usable, counts


def _storable(text: str) -> str:
    """The text without NUL and without lone surrogates, which no UTF-8 file can hold."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _sides(documents: Sequence[Document], groups: Sequence[int], config: DocumentsConfig) -> dict[int, Split]:
    """The side of every group: by the smallest hash of its texts, so that the rest of the corpus plays no part.

    In a small corpus a side may come out with fewer than two groups, on which nothing can be compared; it is then
    given those training groups whose hashes are nearest to it.
    """
    places: dict[int, float] = {}
    for document, group in zip(documents, groups, strict=True):
        places[group] = min(places.get(group, 1.0), _place(document))
    until_validation = config.test_share + config.validation_share
    sides = {
        group: Split.TEST
        if place < config.test_share
        else Split.VALIDATION
        if place < until_validation
        else Split.TRAIN
        for group, place in places.items()
    }
    for side, share in ((Split.TEST, config.test_share), (Split.VALIDATION, config.validation_share)):
        missing = _FEWEST_GROUPS - sum(found is side for found in sides.values()) if share > 0 else 0
        spare = sorted((group for group, found in sides.items() if found is Split.TRAIN), key=places.__getitem__)
        for group in spare[: max(missing, 0)]:
            sides[group] = side
    return sides


def _place(document: Document) -> float:
    """A text's place between 0 and 1, by hash."""
    return int.from_bytes(hashlib.sha256(normalise(document.text).encode()).digest()[:8]) / 2**64
