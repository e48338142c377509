"""From a config to the run's documents: read, clean, sample, group near-duplicates, split."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import HELD_OUT, Document, Split
from multigrain.sources.chunking import chunk_document, cut_text
from multigrain.sources.grouping import divide_group, join_groups, near_duplicate_groups, too_large_group
from multigrain.sources.source import data_source
from multigrain.sources.store import document_list
from multigrain.sources.words import fold_repeated, fold_text, fold_words
from multigrain.storage.sequences import DiskList, RangeSequence, View
from multigrain.storage.text import storable

_MIN_DOCUMENTS = 10
_FEWEST_GROUPS = 2
_NAMED = 3  # documents that were left out for one reason


@dataclass(frozen=True)
class Corpus:
    """The run's documents, each with its group and split, and what was done to get them.

    Attributes:
        documents: in a stable order; on the disk, so that there may be more than memory holds.
        counts: documents, train, validation, test, groups, too_short, repeated, cut, chunked, unreadable, source;
            divided: held-out documents with a near-duplicate among those to train on; held_out_titled: those with a
            title; test_titled and test_titles: test documents with one, and different titles among these; and
            too_short_names and repeated_names: the ids of the first few of them.
    """

    documents: Sequence[Document]
    counts: dict[str, int | str]


def load_corpus(config: DocumentsConfig, *, seed: int) -> Corpus:
    """Read and prepare the documents that a config names.

    Raises:
        SourceError: they cannot be read, or too few are usable.
    """
    documents, unreadable = read_documents(config)
    corpus = prepare_corpus(documents, config, seed=seed, source=data_source(config).describe(config))
    return replace(corpus, counts={**corpus.counts, "unreadable": unreadable})


def read_documents(config: DocumentsConfig) -> tuple[Iterable[Document], int]:
    """Read the documents that a config names, as they are; see `DataSource.read`."""
    return data_source(config).read(config)


def prepare_corpus(
    documents: Iterable[Document], config: DocumentsConfig, *, seed: int, source: str = "documents"
) -> Corpus:
    """Clean, sample, chunk, group and split documents.

    The split is a hash of the text alone: a document keeps its side when the corpus grows or the seed changes. Only
    near-duplicates may move: they share the side of one of them (see `split_groups`), so one more of n may take the
    others along, once in n + 1. The chunks of a document share its group and its side.

    A group of more than half of all documents is divided, as each side would be nearly all of them or none: chunks go
    by whole texts that nearly repeat each other, or else each text goes by itself. A corpus that grows past that limit
    moves the group's documents. Documents go through memory one by one, and wait on the disk.

    Args:
        documents: as they were read.
        config: what is done to them.
        seed: of the sample.
        source: what counts and errors call the place they come from.

    Raises:
        SourceError: fewer than 10 usable documents, or a split that came out empty.
    """
    usable, dropped, names = _clean(documents, config.min_characters)
    read = len(usable.documents) + dropped["too_short"] + dropped["repeated"]
    if len(usable.documents) < _MIN_DOCUMENTS:
        raise SourceError(
            f"{source}: {len(usable.documents)} usable documents of {read} read ({dropped['too_short']} shorter than "
            f"documents.min_characters={config.min_characters}, {dropped['repeated']} repeated); "
            f"at least {_MIN_DOCUMENTS} are needed"
        )
    if config.limit is not None and len(usable.documents) > config.limit:
        usable = usable.at(sorted(random.Random(seed).sample(range(len(usable.documents)), config.limit)))
    parts, places, families = _cut(usable, config, dropped)
    alike = near_duplicate_groups((document.text for document in parts), config.near_duplicate_similarity)
    groups = _group(alike, families, lambda: _alike_wholes(usable.documents, families, config))
    sides = split_groups(groups, places, config)
    split = PlacedDocuments(parts, groups, View(groups, sides.__getitem__))
    count = Counter(sides[group] for group in groups)
    if not count[Split.TRAIN]:
        few = len(set(groups))
        tied = (
            f": near-duplicates and chunks of one text stay together, which leaves {few} groups"
            if few < len(split)
            else ""
        )
        raise SourceError(
            f"{source}: all {len(split)} documents fell on the validation and test sides, none is left to train on"
            f"{tied}; give more documents{' that differ' if tied else ''}, or lower documents.validation_share and "
            "documents.test_share"
        )
    titles: dict[Split, list[str]] = {side: [] for side in HELD_OUT}
    for place, group in enumerate(groups):
        if sides[group] is not Split.TRAIN and (title := parts[place].title):
            titles[sides[group]].append(title)
    trained = {own for own, group in zip(alike, groups, strict=True) if sides[group] is Split.TRAIN}
    counts: dict[str, int | str] = {
        "documents": len(split),
        **{str(side): count[side] for side in Split},
        "groups": len(set(groups)),
        **dropped,
        "divided": sum(
            own in trained and sides[group] is not Split.TRAIN for own, group in zip(alike, groups, strict=True)
        ),
        "held_out_titled": sum(map(len, titles.values())),
        "test_titled": len(titles[Split.TEST]),
        "test_titles": len({fold_text(title) for title in titles[Split.TEST]}),
        "source": source,
        **names,
    }
    return Corpus(split, counts)


@dataclass(frozen=True)
class _Usable:
    """Documents that can be used.

    Attributes:
        documents: in the order in which they were read.
        places: of each, see `text_place`.
        longest: characters of the longest.
    """

    documents: DiskList[Document]
    places: array[float]
    longest: int

    def at(self, positions: Sequence[int]) -> _Usable:
        """Some of them."""
        documents = document_list(self.documents[position] for position in positions)
        return _Usable(documents, array("d", (self.places[position] for position in positions)), self.longest)


class PlacedDocuments(RangeSequence[Document]):
    """Documents with their groups and sides, which are put together when they are asked for.

    Args:
        documents: without them.
        groups: of each.
        sides: of each.
    """

    def __init__(self, documents: Sequence[Document], groups: Sequence[int], sides: Sequence[Split]) -> None:
        self._documents, self._groups, self._sides = documents, groups, sides

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return map(self._placed, self._documents, self._groups, self._sides)

    def read_range(self, start: int, stop: int) -> list[Document]:
        """The documents from `start` up to `stop`."""
        parts = (each[start:stop] for each in (self._documents, self._groups, self._sides))
        return list(map(self._placed, *parts))

    @staticmethod
    def _placed(document: Document, group: int, side: Split) -> Document:
        return Document(document.id, document.text, document.title, group, side)


def _clean(documents: Iterable[Document], min_characters: int) -> tuple[_Usable, dict[str, int], dict[str, str]]:
    """The documents that can be used, counts of the others by reason, and the ids of the first few for each."""
    named: dict[str, list[str]] = {"too_short": [], "repeated": []}
    counts = {"too_short": 0, "repeated": 0, "cut": 0, "chunked": 0}
    keys: set[bytes] = set()
    usable, places, longest = document_list(), array("d"), 0
    for document in documents:
        text = storable(document.text).strip()
        key = _digest(fold_repeated(text).encode())
        if len(text) < min_characters or key in keys:
            reason = "too_short" if len(text) < min_characters else "repeated"
            counts[reason] += 1
            if len(named[reason]) < _NAMED:
                named[reason].append(storable(document.id))
            continue
        keys.add(key)
        title = storable(document.title).strip() or None if document.title is not None else None
        usable.append(Document(storable(document.id), text, title, document.group, document.split))
        places.append(_place(fold_words(text).encode()))
        longest = max(longest, len(text))
    names = {
        f"{reason}_names": ", ".join([*ids, *(["…"] if counts[reason] > len(ids) else [])])
        for reason, ids in named.items()
    }
    return _Usable(usable, places, longest), counts, names


def _cut(
    usable: _Usable, config: DocumentsConfig, counts: dict[str, int]
) -> tuple[Sequence[Document], array[float], Sequence[int]]:
    """The documents, or their chunks, each once and none too long.

    Returns:
        The chunks; for each the place of the whole text that it comes from; and that text's number.
    """
    if config.chunk_size is None and usable.longest <= config.max_characters:
        return usable.documents, usable.places, range(len(usable.documents))
    chunks = document_list()
    families, places = array("q"), array("d")
    keys: set[bytes] = set()
    for family, (document, place) in enumerate(zip(usable.documents, usable.places, strict=True)):
        parts = [document]
        if config.chunk_size is not None:
            parts = chunk_document(
                document,
                size=config.chunk_size,
                unit=config.chunk_unit,
                overlap=config.chunk_overlap,
                min_characters=config.min_characters,
            )
            counts["chunked"] += len(parts) > 1
        for part in parts:
            text = part.text
            if config.chunk_size is not None:  # whole documents are different from each other already
                key = _digest(fold_repeated(text).encode())
                if key in keys:  # the same imprint at the foot of every file
                    counts["repeated"] += 1
                    continue
                keys.add(key)
            if len(text) > config.max_characters:
                counts["cut"] += 1
                text = cut_text(text, config.max_characters)
            chunks.append(replace(part, text=text))
            families.append(family)
            places.append(place)
    return chunks, places, families


def _group(alike: Sequence[int], families: Sequence[int], alike_wholes: Callable[[], Sequence[int]]) -> list[int]:
    """Groups that no split divides: near-duplicates and the chunks of one text, none more than half of all.

    Args:
        alike: of each chunk, the chunks that nearly repeat each other.
        families: of each chunk, the text that it comes from; those of one text stand one after another.
        alike_wholes: of each chunk, the whole texts that nearly repeat each other; asked for where it is needed.
    """
    groups = join_groups(
        alike, (pair for pair in pairwise(range(len(alike))) if families[pair[0]] == families[pair[1]])
    )
    for parts in (alike_wholes, lambda: families):
        if (group := too_large_group(groups)) is not None:
            groups = divide_group(groups, group, parts())
    return groups


def _alike_wholes(whole: Sequence[Document], families: Sequence[int], config: DocumentsConfig) -> list[int]:
    groups = near_duplicate_groups((document.text for document in whole), config.near_duplicate_similarity)
    return [groups[family] for family in families]


def _digest(folded: bytes) -> bytes:
    """The same for texts that are the same but for case, punctuation and spaces; 16 bytes, however long they are."""
    return hashlib.blake2b(folded, digest_size=16).digest()


def split_groups(groups: Sequence[int], places: Sequence[float], config: DocumentsConfig) -> dict[int, Split]:
    """The side of every group: by one of its places, so that the rest of the corpus plays no part.

    It is the place of the member that comes first by a further hash: one place for all of a group, whatever its size,
    as the smallest of many would be a held-out one. One more member changes it once in as many times as there are
    members then.

    In a small corpus a side may come out with fewer than two groups, on which nothing can be compared; it is then
    given those training groups whose places are nearest to it.

    Args:
        groups: for each text its group.
        places: for each text a number between 0 and 1; see `text_place`.
        config: the shares.
    """
    place_of: dict[int, float] = {}
    for group, place in zip(groups, places, strict=True):
        other = place_of.setdefault(group, place)
        if other != place:
            place_of[group] = min(other, place, key=_rank)
    until_validation = config.test_share + config.validation_share
    sides = {
        group: Split.TEST
        if place < config.test_share
        else Split.VALIDATION
        if place < until_validation
        else Split.TRAIN
        for group, place in place_of.items()
    }
    for side, share in ((Split.TEST, config.test_share), (Split.VALIDATION, config.validation_share)):
        missing = _FEWEST_GROUPS - sum(other is side for other in sides.values()) if share > 0 else 0
        if missing <= 0:
            continue
        spare = sorted((group for group, other in sides.items() if other is Split.TRAIN), key=place_of.__getitem__)
        for group in spare[:missing]:
            sides[group] = side
    return sides


def _rank(place: float) -> bytes:
    """What decides which member of a group speaks for it; it says nothing about the place."""
    return hashlib.blake2b(place.hex().encode(), digest_size=8).digest()


def text_place(text: str) -> float:
    """A text's place between 0 and 1, by hash."""
    return _place(fold_words(text).encode())


def _place(folded: bytes) -> float:
    return int.from_bytes(hashlib.sha256(folded).digest()[:8]) / 2**64


def titles_suffice(documents: Sequence[Document]) -> bool:
    """Whether the titles that people wrote ask for all of these documents; see `enough_titles`."""
    return enough_titles(sum(document.title is not None for document in documents), len(documents))


def enough_titles(titled: int, documents: int) -> bool:
    """Whether titles are queries enough for held-out documents, so that none are written: half of them have one."""
    return 2 * titled >= documents > 0
