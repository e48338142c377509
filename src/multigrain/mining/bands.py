"""Graded negatives from the corpus: each level is mined from its own band of ranks.

Rank 0 is the nearest document that is neither the positive nor a near-duplicate of it. A band holds documents
about as similar to the query as each other, so bands give levels without any writing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from multigrain.config import Band
from multigrain.encoders.protocol import Floats
from multigrain.mining.best import Indices, Rows
from multigrain.mining.search import top_k

_BLOCK = 1024


@dataclass(frozen=True)
class Ranking:
    """The corpus as one query ranks it, without the positive and its near-duplicates.

    Attributes:
        indices: (k,) corpus rows, nearest first.
        similarities: (k,) their cosines to the query, falling.
    """

    indices: Indices
    similarities: Floats


def scale_bands(bands: Sequence[Band], corpus_size: int) -> tuple[Band, ...]:
    """Shrink bands, in proportion, to a corpus that is smaller than their last rank.

    Every band keeps at least one rank, the hardest stays at the top, and none overlaps.

    Args:
        bands: for level 1 to 4 the ranks (from, to).
        corpus_size: how many documents can be ranked.
    """
    last = max(high for _, high in bands)
    share = min(1.0, corpus_size / last)
    scaled: list[Band] = []
    floor = 0
    for low, high in reversed(bands):  # hardest first: it has the smallest ranks
        start = max(floor, round(low * share))
        end = max(start + 1, round(high * share))
        scaled.append((start, end))
        floor = end
    return tuple(reversed(scaled))


def nearest_bands(bands: Sequence[Band]) -> tuple[Band, ...]:
    """Bands for the usual hard-negative mining: all four levels from the ranks of the hardest one.

    Args:
        bands: for level 1 to 4 the ranks (from, to).
    """
    low, high = bands[-1]
    cuts = [low + max(round((high - low) * share / 4), share) for share in range(5)]
    return tuple(reversed(list(pairwise(cuts))))


def rank_corpus(
    queries: Floats, corpus: Rows, groups: Sequence[int], own_groups: Sequence[Collection[int]], *, depth: int
) -> Iterator[Ranking]:
    """Rank the corpus for each query, leaving out everything that shares a group with what answers it.

    Args:
        queries: (n, d) query vectors, L2-normalised.
        corpus: (m, d) corpus vectors, L2-normalised; read block by block.
        groups: for each corpus row its near-duplicate group.
        own_groups: for each query the groups of the documents that answer it; none where they are not of the corpus.
        depth: how many ranks are wanted.

    Yields:
        One ranking a query, in order, of `depth` rows or as many as the corpus has.
    """
    owners = np.asarray(groups)
    wanted = {group for own in own_groups for group in own}
    sizes = Counter(group for group in groups if group in wanted)
    left_out = max((sum(sizes[group] for group in set(own)) for own in own_groups), default=0)
    for start in range(0, len(queries), _BLOCK):
        similarities, indices = top_k(queries[start : start + _BLOCK], corpus, depth + left_out)
        for row in range(len(indices)):
            foreign = ~np.isin(owners[indices[row]], list(own_groups[start + row]))
            yield Ranking(indices[row][foreign][:depth], similarities[row][foreign][:depth])
