"""Hard negatives for queries, from vectors that exist: everything here computes, nothing loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from multigrain.encoders.protocol import Floats
from multigrain.mining.best import NO_ROW, Indices, Mask, Rows
from multigrain.mining.rules import MiningRules, ceilings_of, scale_bands
from multigrain.mining.search import rows_at, top_k

Keys: TypeAlias = npt.NDArray[np.uint64]
Search: TypeAlias = Callable[[Floats, int, Floats | None, Mask], tuple[Floats, Indices]]
"""Finds rows: queries, how many, ceilings, rows that nobody may find; as `top_k` returns them."""

_RRF: Final = 60  # Cormack, Clarke & Büttcher 2009
_QUERIES: Final = 8_192


@dataclass(frozen=True)
class QueryBlock:
    """Queries to mine for.

    Attributes:
        vectors: (n, d) L2-normalised.
        positive_similarities: (n,) to the positive; the lowest where a query has several.
        excluded: for each query the keys of texts that are no negatives: its own first, then its positives'.
        words: for each query its text, where words rank.
    """

    vectors: Floats
    positive_similarities: Floats
    excluded: Sequence[Sequence[int]]
    words: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def part(self, rows: slice) -> QueryBlock:
        """Some of the queries."""
        return QueryBlock(self.vectors[rows], self.positive_similarities[rows], self.excluded[rows], self.words[rows])


@dataclass(frozen=True)
class Mined:
    """What was mined for one query.

    Attributes:
        query: its number.
        indices: (k,) corpus rows; nearest first, or by level 1 to 4 where bands were asked for. Fewer than were
            asked for where the corpus holds no more candidates.
        similarities: (k,) to the query.
    """

    query: int
    indices: Indices
    similarities: Floats


def repeated_rows(keys: Keys) -> Mask:
    """True for each row whose text stands in an earlier one."""
    repeated = np.ones(len(keys), dtype=bool)
    repeated[np.unique(keys, return_index=True)[1]] = False
    return repeated


def mine_negatives(
    queries: QueryBlock,
    corpus: Rows,
    keys: Keys,
    rules: MiningRules,
    *,
    search: Search | None = None,
    lexical: Callable[[Sequence[str], int], Indices] | None = None,
) -> Iterator[Mined]:
    """Mine for each query, in order.

    Args:
        queries: whom for.
        corpus: (m, d) vectors, read block by block.
        keys: (m,) each row's text key; see `rules.word_keys`.
        rules: what counts and what is taken.
        search: finds the nearest rows; None for exact search.
        lexical: ranks rows by words: (texts, depth) to (n, depth) rows, `NO_ROW` where no more share a word.
    """
    hidden = repeated_rows(keys)
    rules = _fitted(rules, int(len(keys) - hidden.sum()))
    find = search or (lambda vectors, k, ceilings, out: top_k(vectors, corpus, k, ceilings=ceilings, left_out=out))
    for start in range(0, len(queries), _QUERIES):
        block = queries.part(slice(start, start + _QUERIES))
        ceilings = ceilings_of(rules, block.positive_similarities)
        slack = _most_excluded(block.excluded, keys, hidden)
        scores, rows = find(block.vectors, min(rules.depth + slack, len(keys)), ceilings, hidden)
        words = None if lexical is None or rules.fuse == "dense" else lexical(block.words, 2 * rules.depth + slack)
        banned = _padded(block.excluded)
        for number in range(len(block)):
            own, similar = rows[number], scores[number]
            if words is not None:
                ceiling = None if ceilings is None else float(ceilings[number])
                vector = block.vectors[number]
                own, similar = _with_words(own, similar, words[number], vector, corpus, rules, ceiling, hidden)
            allowed = (own != NO_ROW) & ~(keys[own][:, None] == banned[number]).any(axis=1)
            yield _pick(start + number, own[allowed][: rules.depth], similar[allowed][: rules.depth], rules)


def fuse_ranks(rankings: Sequence[Indices]) -> Indices:
    """Rows by reciprocal rank over several rankings, best first; ties go to the smaller row."""
    rows = np.concatenate(rankings)
    shares = np.concatenate([1.0 / (_RRF + 1 + np.arange(len(ranking))) for ranking in rankings])
    distinct, positions = np.unique(rows, return_inverse=True)
    totals = np.bincount(positions, weights=shares, minlength=len(distinct))
    return distinct[np.lexsort((distinct, -totals))]


def _fitted(rules: MiningRules, candidates: int) -> MiningRules:
    if rules.bands is None:
        return rules
    easiest, low, high, hardest = scale_bands(rules.bands, max(candidates - 1, 1))
    return replace(rules, bands=(easiest, low, high, hardest))


def _most_excluded(excluded: Sequence[Sequence[int]], keys: Keys, hidden: Mask) -> int:
    """The most rows that one query's exclusions can hide: each key stands once among rows that are not hidden."""
    distinct = np.fromiter({key for own in excluded for key in own}, dtype=np.uint64)
    # Keys of rows that are not hidden differ from each other.
    present = set(distinct[np.isin(distinct, keys[~hidden], assume_unique=True)].tolist())
    return max((len(present.intersection(own)) for own in excluded), default=0)


def _padded(excluded: Sequence[Sequence[int]]) -> Keys:
    """Keys in rows of one length; what is missing repeats a row's first."""
    width = max(len(own) for own in excluded)
    return np.asarray([[*own, *[own[0]] * (width - len(own))] for own in excluded], dtype=np.uint64)


def _with_words(
    dense: Indices,
    similar: Floats,
    words: Indices,
    query: Floats,
    corpus: Rows,
    rules: MiningRules,
    ceiling: float | None,
    hidden: Mask,
) -> tuple[Indices, Floats]:
    """Rank by words, or by both; margins go by vectors all the same."""
    similarity = {int(row): float(score) for row, score in zip(dense, similar, strict=True) if row != NO_ROW}
    lexical = np.asarray([row for row in words if row != NO_ROW and not hidden[row]], dtype=np.int64)
    new = np.asarray([row for row in lexical if int(row) not in similarity], dtype=np.int64)
    if len(new):
        similarity.update(zip(new.tolist(), (rows_at(corpus, new) @ query).tolist(), strict=True))
    if ceiling is not None:
        lexical = np.asarray([row for row in lexical if similarity[int(row)] <= ceiling], dtype=np.int64)
    ranked = lexical if rules.fuse == "lexical" else fuse_ranks([dense[dense != NO_ROW], lexical])
    return ranked, np.asarray([similarity[int(row)] for row in ranked], dtype=np.float32)


def _pick(query: int, rows: Indices, similar: Floats, rules: MiningRules) -> Mined:
    open_ranks = np.arange(rules.first_rank, len(rows))
    if rules.bands is not None:
        chance = np.random.default_rng((rules.seed, query))
        ranks = [int(chance.integers(low, min(high, len(rows)))) for low, high in rules.bands if low < len(rows)]
    elif rules.sampling == "random":
        chance = np.random.default_rng((rules.seed, query))
        drawn = chance.choice(open_ranks, size=min(rules.negatives, len(open_ranks)), replace=False)
        ranks = sorted(drawn.tolist())
    else:
        ranks = open_ranks[: rules.negatives].tolist()
    return Mined(query, rows[ranks], similar[ranks])
