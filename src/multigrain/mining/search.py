"""Exact nearest neighbours in bounded memory: tiles of queries against blocks of the corpus, on all cores."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from multigrain.errors import SourceError

__all__ = ["NO_ROW", "Floats", "Indices", "Rows", "rows_at", "top_k"]

Floats: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

NO_ROW: Final = -1
"""Stands for a corpus row where there are fewer than were asked for; its score is minus infinity."""

# Tiles of scores (queries × corpus rows), 16 MiB a thread: measured on 2 cores with 384 dimensions and k = 200,
# within 3% of the best of 128-1024 × 2048-16384.
_QUERY_BLOCK = 512
_CORPUS_TILE = 8_192
# Rows of the corpus that are in memory at once.
_CORPUS_BLOCK = 32_768

_EMPTY: Final = np.iinfo(np.int64).min
_LOW_BITS: Final = 32
_LAST: Final = 2**_LOW_BITS - 1


class Rows(Protocol):
    """Vectors that are read by slices: an array, a memory map, a store of shards."""

    def __len__(self) -> int:
        """How many rows."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Rows as a (rows, dimensions) array."""
        ...


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
) -> tuple[Floats, Indices]:
    """The k nearest corpus rows of each query by inner product, nearest first.

    The corpus is read once, block by block; memory holds one block, a tile of scores a thread, and the result.
    Ties go to the smaller corpus index, so that results do not depend on block sizes.

    Args:
        queries: (n, d), L2-normalised for cosine.
        corpus: (m, d); an array, or anything that gives slices of rows. Numbers are read as float32.
        k: how many; m where the corpus is smaller.
        ceilings: (n,) for each query the highest score that counts; rows above it are passed over.
        left_out: (m,) True for rows that no query may find.
        threads: None for one a core ($OMP_NUM_THREADS, where it is set).

    Returns:
        Scores (n, k) and corpus indices (n, k); where fewer rows count, the rest is minus infinity and `NO_ROW`.

    Raises:
        SourceError: vectors that are not finite, or of different dimensions.
    """
    k = min(k, len(corpus))
    best = _Best.empty(len(queries), k, ceilings)
    if not len(queries) or not k:
        return best.result()
    if not math.isfinite(float(np.sum(queries, dtype=np.float64))):
        raise SourceError("query vectors are not finite (NaN or infinity): the model's weights are damaged")
    starts = range(0, len(queries), _QUERY_BLOCK)
    workers = min(threads or _cores(), len(starts))
    with _one_blas_thread_each(workers) as run:
        for offset in range(0, len(corpus), _CORPUS_BLOCK):
            block = np.ascontiguousarray(corpus[offset : offset + _CORPUS_BLOCK], dtype=np.float32)
            _check(block, queries, offset)
            out = None if left_out is None else left_out[offset : offset + len(block)]
            out = out if out is not None and out.any() else None

            def search(start: int, block: Floats = block, offset: int = offset, out: Mask | None = out) -> None:
                best.offer(queries, slice(start, start + _QUERY_BLOCK), block, offset, out)

            run(search, starts)
    return best.result()


@dataclass
class _Best:
    """The best rows of each query so far.

    Score and index are packed into one integer that sorts as they should: picking the best is then one partition.

    Attributes:
        keys: (n, k) packed scores and indices, in no order.
        floors: (n,) the score that a row must exceed to get in.
        ceilings: (n,) the score that it must not exceed; None for none.
    """

    keys: Indices
    floors: Floats
    ceilings: Floats | None = None
    buffers: list[Floats] = field(default_factory=list)

    @classmethod
    def empty(cls, queries: int, k: int, ceilings: Floats | None) -> _Best:
        return cls(
            np.full((queries, k), _EMPTY, dtype=np.int64),
            np.full(queries, -np.inf, dtype=np.float32),
            None if ceilings is None else np.ascontiguousarray(ceilings, dtype=np.float32),
        )

    def offer(self, queries: Floats, rows: slice, block: Floats, offset: int, left_out: Mask | None) -> None:
        """Look through a block of the corpus for some queries."""
        asked = np.ascontiguousarray(queries[rows], dtype=np.float32)
        ceilings = None if self.ceilings is None else self.ceilings[rows, None]
        buffer = self._take_buffer()
        for start in range(0, len(block), _CORPUS_TILE):
            part = block[start : start + _CORPUS_TILE]
            scores = buffer[: len(asked) * len(part)].reshape(len(asked), len(part))
            np.matmul(asked, part.T, out=scores)
            if left_out is not None:
                scores[:, left_out[start : start + len(part)]] = -np.inf
            self._merge(rows, scores, offset + start, ceilings)
        self.buffers.append(buffer)

    def result(self) -> tuple[Floats, Indices]:
        """Scores and indices, best first."""
        best_first = np.sort(self.keys, axis=1)[:, ::-1]
        missing = best_first == _EMPTY
        indices = np.where(missing, NO_ROW, _LAST - (best_first & _LAST))
        return np.where(missing, np.float32(-np.inf), _scores(best_first)), indices

    def _take_buffer(self) -> Floats:
        try:
            return self.buffers.pop()
        except IndexError:
            return np.empty(_QUERY_BLOCK * _CORPUS_TILE, dtype=np.float32)

    def _merge(self, rows: slice, scores: Floats, start: int, ceilings: Floats | None) -> None:
        floors = self.floors[rows, None]
        allowed = None if ceilings is None else scores <= ceilings
        # Rows come in rising order, so an equal score never displaces one that is in already.
        passing = scores > floors
        if allowed is not None:
            passing &= allowed
        keys = self.keys[rows]
        k = keys.shape[1]
        if scores.shape[1] > 2 * k and np.count_nonzero(passing) > len(scores) * scores.shape[1] // 2:
            # The first tile: nearly everything passes. Find where its own k best begin.
            shown = scores if allowed is None else np.where(allowed, scores, np.float32(-np.inf))
            own = np.partition(shown, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
            passing &= scores >= own
        found = np.flatnonzero(passing)
        if not found.size:
            return
        row, column = np.divmod(found, scores.shape[1])
        counts = np.bincount(row, minlength=len(scores))
        most = int(counts.max())
        slots = np.arange(found.size) - np.repeat(np.cumsum(counts) - counts, counts)
        wide = np.full((len(scores), k + most), _EMPTY, dtype=np.int64)
        wide[:, :k] = keys
        wide[row, k + slots] = _pack(scores.reshape(-1)[found], start + column)
        wide.partition(most, axis=1)
        self.keys[rows] = wide[:, most:]
        lowest = wide[:, most:].min(axis=1)
        self.floors[rows] = np.where(lowest == _EMPTY, np.float32(-np.inf), _scores(lowest))


def _pack(scores: Floats, indices: Indices) -> Indices:
    """Integers that sort by score, then by falling index (IEEE 754: magnitudes of negative numbers run backwards)."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # adding zero makes -0.0 equal to 0.0
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return (ordered << _LOW_BITS) | (_LAST - indices)


def _scores(keys: Indices) -> Floats:
    ordered = (keys >> _LOW_BITS).astype(np.int32)
    return np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).astype(np.int32).view(np.float32)


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
def _one_blas_thread_each(workers: int) -> Iterator[Any]:
    """Yields a function that runs work over query blocks; with several workers each multiplies on one core.

    So the looking through is shared between the cores as the multiplying is. One block of queries alone is
    multiplied by all the cores that BLAS has.
    """
    if workers <= 1:
        yield lambda work, starts: [work(start) for start in starts]
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        yield lambda work, starts: list(pool.map(work, starts))
