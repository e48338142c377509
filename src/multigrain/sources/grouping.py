"""Near-duplicates found by MinHash over word trigrams, so that no split divides them; signatures lie on the disk."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from multigrain.sources.words import folded_words, ngrams_of

_Indices: TypeAlias = npt.NDArray[np.int64]

_BLOCK: Final = 4_096  # texts that are added at once; all blocks but the last have as many
_PERMUTATIONS: Final = 128
_BANDS: Final = 32  # of four permutations each
_SEED: Final = 7  # of the hash family; it decides nothing but which hash functions are drawn
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_LARGEST_SHARE: Final = 0.5


def near_duplicate_groups(
    texts: Iterable[str], similarity: float, *, together: Iterable[tuple[int, int]] = ()
) -> list[int]:
    """Group texts whose word trigrams overlap, transitively.

    Texts are read once, a block at a time, and their MinHash signatures lie in a temporary file (768 bytes a text);
    memory holds some 30 bytes a text.

    Args:
        texts: the texts.
        similarity: Jaccard overlap from which two texts are near-duplicates, 0-1.
        together: places of texts that belong to one group whatever their words: two and two.

    Returns:
        For each text the index of the first text of its group.
    """
    with _Signatures() as signatures:
        source = iter(texts)
        while block := list(islice(source, _BLOCK)):
            signatures.add([ngrams_of(folded_words(text)) for text in block])
        parents = np.arange(len(signatures), dtype=np.int64)
        for bucket in signatures.buckets():
            _join_bucket(parents, bucket, signatures, similarity)
    return _joined(parents, together)


def join_groups(groups: Sequence[int], together: Iterable[tuple[int, int]]) -> list[int]:
    """Groups as `near_duplicate_groups` gives them, some of which belong together; see there."""
    return _joined(np.array(groups, dtype=np.int64), together)


def _joined(parents: _Indices, together: Iterable[tuple[int, int]]) -> list[int]:
    for pair in together:
        _join(parents, *pair)
    groups: list[int] = _roots(parents).tolist()
    return groups


def too_large_group(groups: Iterable[int]) -> int | None:
    """The group that holds more than half of all texts, where there is one: no side of a split could do without it."""
    sizes = Counter(groups)
    group, size = max(sizes.items(), key=lambda item: item[1], default=(0, 0))
    return group if size > _LARGEST_SHARE * sizes.total() else None


def divide_group(groups: Sequence[int], group: int, parts: Sequence[int]) -> list[int]:
    """The groups, one of which falls apart.

    Args:
        groups: for each text the index of the first text of its group.
        group: the one that falls apart.
        parts: for each text the part that it goes to; those of other groups are not looked at.
    """
    first: dict[int, int] = {}
    return [
        first.setdefault(part, place) if own == group else own
        for place, (own, part) in enumerate(zip(groups, parts, strict=True))
    ]


class _Signatures:
    """A context: the file is gone when it ends. On disk 768 bytes a text, in memory 16 while a band is sorted."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> _Signatures:
        # Signatures in their order; and per block, band after band, a hash of each text's band.
        self._signatures: Any = tempfile.TemporaryFile()
        self._bands: Any = tempfile.TemporaryFile()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._signatures.close()
        self._bands.close()

    def __len__(self) -> int:
        return self._count

    def add(self, shingles: list[list[str]]) -> None:
        """The next block of texts, each by its shingles, in any order and any number of times."""
        from rensa import RMinHash

        signatures = RMinHash.digest_matrix_from_token_sets(shingles, _PERMUTATIONS, _SEED)
        block = np.asarray(signatures.to_rows(), dtype=np.uint32)
        self._signatures.write(block.tobytes())
        halves = block.view(np.uint64).reshape(len(block), _BANDS, -1)  # (texts, bands, 2)
        # Two bands that are equal have equal hashes; signatures decide, so that others may have them too.
        self._bands.write(np.ascontiguousarray(((halves[:, :, 0] * _MIX) ^ halves[:, :, 1]).T).tobytes())
        self._count += len(block)

    def at(self, places: _Indices) -> npt.NDArray[np.uint32]:
        """(len(places), 128) the signatures of some texts."""
        self._signatures.flush()
        width = _PERMUTATIONS * 4
        raw = b"".join(self._read(self._signatures, int(place) * width, width) for place in places)
        return np.frombuffer(raw, dtype=np.uint32).reshape(-1, _PERMUTATIONS)

    def buckets(self) -> Iterator[_Indices]:
        """For every band the texts that have it in common, two and more, in rising order."""
        if not self._count:
            return
        self._bands.flush()
        for band in range(_BANDS):
            hashes = self._band(band)
            order = np.argsort(hashes, kind="stable")
            same = np.diff(hashes[order]) == 0
            # Where a run of equal hashes begins, and where it ends.
            edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
            for first, last in edges.reshape(-1, 2).tolist():
                yield order[first : last + 1]

    def _band(self, band: int) -> npt.NDArray[np.uint64]:
        parts = []
        for start in range(0, self._count, _BLOCK):
            rows = min(_BLOCK, self._count - start)
            parts.append(self._read(self._bands, (start * _BANDS + rows * band) * 8, rows * 8))
        return np.frombuffer(b"".join(parts), dtype=np.uint64)

    @staticmethod
    def _read(file: Any, start: int, size: int) -> bytes:
        file.seek(start)
        return bytes(file.read(size))


def _join_bucket(parents: _Indices, bucket: _Indices, signatures: _Signatures, similarity: float) -> None:
    """Join the texts of a bucket that are similar; those that are of one group already are not compared."""
    if len({_root(parents, int(position)) for position in bucket}) == 1:
        return
    distinct, first, which = np.unique(signatures.at(bucket), axis=0, return_index=True, return_inverse=True)
    for place, own in enumerate(which.reshape(-1)):  # equal signatures first: boilerplate comes by the thousand
        _join(parents, int(bucket[place]), int(bucket[first[own]]))
    for place in range(1, len(distinct)):
        alike = (distinct[:place] == distinct[place]).mean(axis=1) >= similarity
        for other in np.flatnonzero(alike):
            _join(parents, int(bucket[first[place]]), int(bucket[first[other]]))


def _root(parents: _Indices, position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = int(parents[position])
    return position


def _roots(parents: _Indices) -> _Indices:
    """Everybody's root: a parent's parent, until nothing changes."""
    while not np.array_equal(further := parents[parents], parents):
        parents = further
    return parents


def _join(parents: _Indices, *positions: int) -> None:
    low, high = sorted(_root(parents, position) for position in positions)
    parents[high] = low
