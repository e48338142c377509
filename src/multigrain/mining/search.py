"""Exact nearest neighbours in bounded memory: tiles of queries against blocks of the corpus, on all cores."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from multigrain.encoders.protocol import Floats
from multigrain.errors import SourceError
from multigrain.mining.best import Best, Indices, Mask, Rows
from multigrain.mining.rounded import RoundedPass, rounding_pays

# Tiles of scores (queries × corpus rows), 16 MiB a thread: measured on 2 cores with 384 dimensions and k = 200,
# within 3% of the best of 128-1024 × 2048-16384.
_QUERY_BLOCK = 512
_CORPUS_TILE = 8_192
# Queries ranked at once by `rank_corpus`.
_RANKED = 1_024
# Rows of the corpus that are in memory at once.
_CORPUS_BLOCK = 32_768


@dataclass(frozen=True)
class Ranking:
    """The corpus as one query ranks it, without the positive and its near-duplicates.

    Attributes:
        indices: (k,) corpus rows, nearest first.
        similarities: (k,) their cosines to the query, falling.
    """

    indices: Indices
    similarities: Floats


def rows_at(corpus: Rows, rows: Indices) -> Floats:
    """Any rows of a corpus, in the order given: (len(rows), dimensions)."""
    take = getattr(corpus, "gather", None)  # a store reads near neighbours together; arrays index
    array: Any = corpus
    return np.asarray(take(rows) if take is not None else array[rows], dtype=np.float32)


def top_k(
    queries: Floats,
    corpus: Rows,
    k: int,
    *,
    ceilings: Floats | None = None,
    left_out: Mask | None = None,
    threads: int | None = None,
    read_once: bool = False,
    block: int = _CORPUS_BLOCK,
) -> tuple[Floats, Indices]:
    """The k nearest corpus rows of each query by inner product, nearest first.

    The corpus is read block by block: once, or twice where the processor multiplies bfloat16 faster than float32 and a
    first pass in it pays (see `rounded`). The result is that of float32 either way. Memory holds one block, a tile of
    scores a thread, and the result.
    Ties go to the smaller corpus index, so that results do not depend on block sizes.

    Args:
        queries: (n, d), L2-normalised for cosine.
        corpus: (m, d); an array, or anything that gives slices of rows. Numbers are read as float32.
        k: how many; m where the corpus is smaller.
        ceilings: (n,) for each query the highest score that counts; rows above it are passed over.
        left_out: (m,) True for rows that no query may find.
        threads: None for one a core ($OMP_NUM_THREADS, where it is set).
        read_once: ask for each block of the corpus once, in order: its rows are made when they are asked for.
        block: rows of the corpus that are in memory at once.

    Returns:
        Scores (n, k) and corpus indices (n, k); where fewer rows count, the rest is minus infinity and `NO_ROW`.

    Raises:
        SourceError: vectors that are not finite, or of different dimensions.
    """
    k = min(k, len(corpus))
    if not len(queries) or not k:
        return Best.empty(len(queries), k).result()
    if not math.isfinite(float(np.sum(queries, dtype=np.float64))):
        raise SourceError("query vectors are not finite (NaN or infinity): the model's weights are damaged")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    ceilings = None if ceilings is None else np.ascontiguousarray(ceilings, dtype=np.float32)
    if read_once or not rounding_pays(len(queries), len(corpus), k):
        return _search(queries, corpus, k, ceilings, left_out, threads, block)
    scores, rows, unsettled = _search_rounded(queries, corpus, k, ceilings, left_out, threads, block)
    if unsettled.any():
        own = None if ceilings is None else ceilings[unsettled]
        scores[unsettled], rows[unsettled] = _search(queries[unsettled], corpus, k, own, left_out, threads, block)
    return scores, rows


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
    answering = np.array(sorted({group for own in own_groups for group in own}), dtype=owners.dtype)
    sizes = Counter(owners[np.isin(owners, answering)].tolist())
    left_out = max((sum(sizes[group] for group in set(own)) for own in own_groups), default=0)
    for start in range(0, len(queries), _RANKED):
        similarities, indices = top_k(queries[start : start + _RANKED], corpus, depth + left_out)
        for row in range(len(indices)):
            foreign = ~np.isin(owners[indices[row]], list(own_groups[start + row]))
            yield Ranking(indices[row][foreign][:depth], similarities[row][foreign][:depth])


def _search(
    queries: Floats,
    corpus: Rows,
    k: int,
    ceilings: Floats | None,
    left_out: Mask | None,
    threads: int | None,
    rows_at_once: int,
) -> tuple[Floats, Indices]:
    """In float32, in one pass."""
    best = Best.empty(len(queries), k)
    buffers: list[Floats] = []
    with _on_cores(len(queries), threads) as run:
        for offset, block in _blocks(queries, corpus, rows_at_once):

            def search(rows: slice, block: Floats = block, offset: int = offset) -> None:
                own = queries[rows]
                buffer = buffers.pop() if buffers else np.empty(_QUERY_BLOCK * _CORPUS_TILE, dtype=np.float32)
                for start in range(0, len(block), _CORPUS_TILE):
                    part = block[start : start + _CORPUS_TILE]
                    scores = buffer[: len(own) * len(part)].reshape(len(own), len(part))
                    np.matmul(own, part.T, out=scores)
                    hidden = _hidden(left_out, offset + start, len(part))
                    if hidden is not None:
                        scores[:, hidden] = -np.inf
                    best.offer(rows, scores, offset + start, None if ceilings is None else ceilings[rows, None])
                buffers.append(buffer)

            run(search)
        run(best.merge)
    return best.result()


def _search_rounded(
    queries: Floats,
    corpus: Rows,
    k: int,
    ceilings: Floats | None,
    left_out: Mask | None,
    threads: int | None,
    rows_at_once: int,
) -> tuple[Floats, Indices, Mask]:
    """In bfloat16 first; (n,) which queries that did not settle."""
    import torch

    search = RoundedPass(queries, k, ceilings)
    buffers: list[Any] = []
    with _on_cores(len(queries), threads) as run:
        for offset, block in _blocks(queries, corpus, rows_at_once):
            rounded = torch.empty(block.shape, dtype=torch.bfloat16)

            def convert(part: slice, block: Floats = block, rounded: Any = rounded) -> None:
                search.round(block[part], rounded[part])

            def look(rows: slice, offset: int = offset, rounded: Any = rounded) -> None:
                count = len(queries[rows])
                room = buffers.pop() if buffers else torch.empty(_QUERY_BLOCK * _CORPUS_TILE, dtype=torch.bfloat16)
                for start in range(0, len(rounded), _CORPUS_TILE):
                    tile = rounded[start : start + _CORPUS_TILE]
                    out = room[: count * len(tile)].view(count, len(tile))
                    search.look(rows, tile, offset + start, _hidden(left_out, offset + start, len(tile)), out)
                buffers.append(room)

            run(convert, _slices(len(block), _CORPUS_TILE // 4))
            run(look)
        run(search.choose)
        for offset, block in _blocks(queries, corpus, rows_at_once):
            run(lambda rows, block=block, offset=offset: search.measure(rows, block, offset))
        run(search.finish)
    return search.scores, search.rows, search.unsettled


def _blocks(queries: Floats, corpus: Rows, size: int) -> Iterator[tuple[int, Floats]]:
    """The corpus block by block, each with its first row's index, looked over."""
    for offset in range(0, len(corpus), size):
        block = np.ascontiguousarray(corpus[offset : offset + size], dtype=np.float32)
        _check(block, queries, offset)
        yield offset, block


def _hidden(left_out: Mask | None, start: int, count: int) -> Mask | None:
    """The rows of a tile that nobody may find; None where there are none."""
    hidden = None if left_out is None else left_out[start : start + count]
    return hidden if hidden is not None and hidden.any() else None


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _check(block: Floats, queries: Floats, offset: int) -> None:
    if block.ndim != 2 or block.shape[1] != queries.shape[1]:
        raise SourceError(
            f"corpus vectors have shape {block.shape}, query vectors {queries.shape}: embed both with one model"
        )
    # A sum is finite only where everything in it is, short of an overflow that normalised vectors cannot cause.
    if not math.isfinite(float(block.sum())):
        raise SourceError(
            f"corpus vectors {offset}-{offset + len(block) - 1} are not all finite (NaN or infinity): embed them again"
        )


def _cores() -> int:
    limit = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


@contextmanager
def _on_cores(queries: int, threads: int | None) -> Iterator[Callable[..., None]]:
    """Yields a function that does a piece of work for every block of queries, or for every slice that it is given.

    With several blocks each is multiplied on one core, so that the looking through is shared between the cores as the
    multiplying is. One block alone is multiplied by all the cores that the library has.
    """
    blocks = _slices(queries, _QUERY_BLOCK)
    workers = min(threads or _cores(), len(blocks))

    def one_by_one(work: Callable[[slice], None], slices: Sequence[slice] = blocks) -> None:
        for part in slices:
            work(part)

    if workers <= 1:
        yield one_by_one
        return
    with _one_thread_each(), ThreadPoolExecutor(workers) as pool:

        def side_by_side(work: Callable[[slice], None], slices: Sequence[slice] = blocks) -> None:
            for _ in pool.map(work, slices):
                pass

        yield side_by_side


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Every thread that is started within multiplies on one core, with numpy and with torch."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(limits=1, user_api="blas"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
