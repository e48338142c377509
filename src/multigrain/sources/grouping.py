"""Near-duplicates found by MinHash over word trigrams, so that no split divides them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from multigrain.sources.signatures import BLOCK, Indices, Signatures
from multigrain.sources.words import word_ngrams


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
    with Signatures() as signatures:
        source = iter(texts)
        while block := list(islice(source, BLOCK)):
            signatures.add(sorted(word_ngrams(text)) for text in block)
        parents = np.arange(len(signatures), dtype=np.int64)
        for bucket in signatures.buckets():
            _join_bucket(parents, bucket, signatures, similarity)
    for left, right in together:
        _join(parents, left, right)
    groups: list[int] = _roots(parents).tolist()
    return groups


def _join_bucket(parents: Indices, bucket: Indices, signatures: Signatures, similarity: float) -> None:
    """Join the texts of a bucket that are similar; those that are of one group already are not compared."""
    if len({_root(parents, int(position)) for position in bucket}) == 1:
        return
    held, first, which = np.unique(signatures.at(bucket), axis=0, return_index=True, return_inverse=True)
    for place, own in enumerate(which.reshape(-1)):  # equal signatures first: boilerplate comes by the thousand
        _join(parents, int(bucket[place]), int(bucket[first[own]]))
    for place in range(1, len(held)):
        alike = (held[:place] == held[place]).mean(axis=1) >= similarity
        for other in np.flatnonzero(alike):
            _join(parents, int(bucket[first[place]]), int(bucket[first[other]]))


def _root(parents: Indices, position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = int(parents[position])
    return position


def _roots(parents: Indices) -> Indices:
    """Everybody's root: a parent's parent, until nothing changes."""
    while not np.array_equal(further := parents[parents], parents):
        parents = further
    return parents


def _join(parents: Indices, left: int, right: int) -> None:
    low, high = sorted((_root(parents, left), _root(parents, right)))
    parents[high] = low
