"""How small may vectors be? nDCG@10 of shorter and coarser ones, from the vectors that an evaluation holds already.

A vector is cut to its first numbers (to Matryoshka lengths where a model was trained for them), scaled to length 1
again where it had that, and stored more coarsely: quantised by sentence-transformers, int8 with its ranges from the
documents. What is searched is what would be stored:

- float16: queries and documents rounded.
- int8: codes against codes, the integer product that sentence-transformers' search in usearch or FAISS makes. As each
  dimension has a range of its own, that is not the product of the vectors, and may cost points.
- binary: the signs of the numbers, by how many agree.
- rescored: the nearest `CANDIDATES` by the above, ordered again by the float32 query against what the codes stand for.
  That takes no further storage.

A size is enough where it loses less than the smallest difference that matters, by the rule of all claims: the whole
interval of its loss lies below it, and so does the test after Holm's correction over the table. Besides, it takes
`ENOUGH_CLUSTERS` clusters of queries that differ at all, as an interval from fewer is too narrow, or else `MANY`
clusters: of fewer, none may differ though three in a hundred do, which would be about as much as may be lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from multigrain.errors import EvaluationError
from multigrain.evaluation.settings import PRECISIONS, CompareSettings, SizeSettings
from multigrain.evaluation.significance import (
    ENOUGH_CLUSTERS,
    PairedDifference,
    difference_interval,
    holm,
    randomisation_p_value,
)
from multigrain.mining.search import top_k
from multigrain.records import Precision
from multigrain.storage.sequences import View

if TYPE_CHECKING:  # it loads torch, which reading a table does not need
    from multigrain.encoders.protocol import Encoder
    from multigrain.evaluation.sets.retrieval_set import EvaluationSet

Floats = NDArray[np.float32]

CANDIDATES: Final = 40
"""How many are rescored: four times the ten that count, sentence-transformers' own advice being a few times."""

MANY: Final = 100

_BITS: Final = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}
_QUERIES: Final = 256  # rescored at once
_MOST_NUMBERS: Final = 25_000_000  # of the documents' vectors, of which there are five copies at once
_MOST_QUERIES: Final = 2_000
_MOST_SIGNS: Final = 2_000  # behind each p-value: enough for a correction over fifty sizes
_UNIT: Final = 1e-3


@dataclass(frozen=True, slots=True)
class VectorSize:
    """Vectors of one length and precision on a set.

    Attributes:
        length: numbers in a vector.
        precision: of each.
        rescored: whether the nearest by codes are ordered again by the query in float32.
        bytes: of a document's vector.
        score: nDCG@10.
        loss: score minus that of the whole vectors in float32, so that a loss is negative; None for these. Its p-value
            is of the hypothesis that at least the threshold is lost; 1 where the interval says so already.
        adjusted_p: that p-value, corrected over the table; None likewise.
        enough: whether less than the threshold is lost.
    """

    length: int
    precision: Precision
    rescored: bool
    bytes: int
    score: float
    loss: PairedDifference | None
    adjusted_p: float | None
    enough: bool

    @property
    def words(self) -> str:
        """The size in words: "128 × int8, rescored"."""
        return f"{self.length:,} × {self.precision}{', rescored' if self.rescored else ''}"


@dataclass(frozen=True, slots=True)
class SizeTable:
    """Every size of one model's vectors on one set.

    Attributes:
        set: the set's name.
        model: the model's.
        queries: how many.
        clusters: how many clusters they are, see `EvaluationSet.clusters`.
        documents: that were searched.
        sampled: whether these are a sample, as there are too many to try every size on.
        threshold: what a size may lose, on a scale of 0 to 1.
        trained: the lengths that the model was trained for, besides the whole; empty where it is not known to be.
        sizes: the whole vectors in float32 first; then by bytes, most first.
    """

    set: str
    model: str
    queries: int
    clusters: int
    documents: int
    sampled: bool
    threshold: float
    trained: tuple[int, ...]
    sizes: tuple[VectorSize, ...]

    @property
    def whole(self) -> VectorSize:
        """The whole vectors in float32."""
        return self.sizes[0]

    @property
    def advised(self) -> VectorSize:
        """The smallest that is enough; of equally small ones the better one. The whole vectors where none is."""
        return min((size for size in self.sizes if size.enough), key=lambda size: (size.bytes, -size.score))

    @property
    def sentence(self) -> str:
        """What is advised, and why."""
        allowed = f"{100 * self.threshold:g} point{'' if self.threshold == 0.01 else 's'}"
        advised, on = self.advised, f"vectors of {self.model} on {self.set}"
        if advised is self.whole:
            clusters = f" in {self.clusters:,} clusters" if self.clusters < self.queries else ""
            few = f"; {self.queries:,} queries{clusters} are too few for that" if self.clusters < MANY else ""
            return (
                f"{on}: no smaller vector is shown to lose less than {allowed}{few}; keep {advised.words} "
                f"({advised.bytes:,} bytes){'' if few else f', or test on more queries than {self.queries:,}'}"
            )
        times = self.whole.bytes / advised.bytes
        return (
            f"{on}: {advised.words} loses less than {allowed}, in {advised.bytes:,} bytes a document, {times:.3g} "
            f"times less than {self.whole.words}"
        )


def measure_sizes(
    encoder: Encoder,
    evaluation_set: EvaluationSet,
    sizes: SizeSettings,
    settings: CompareSettings,
    *,
    model: str,
    trained: Sequence[int] = (),
    shards: Path | None = None,
) -> SizeTable:
    """Try every size on a set.

    Args:
        encoder: of the model; wrapped in `CachedEncoder` it embeds nothing anew. Its vectors are as the model gives
            them.
        evaluation_set: what to search; a seeded sample of it where it is large.
        sizes: which lengths and precisions.
        settings: how sizes are compared with the whole; its `smallest` is what one may lose.
        model: what tables call the model.
        trained: the Matryoshka lengths it was trained for: tried where `sizes` names none.
        shards: the folder in which the vectors of the whole set lie, where it is too large for memory.

    Raises:
        EvaluationError: every length is more than the model gives, or a set of fewer than two queries.
    """
    from multigrain.evaluation.sets.retrieval_set import sample

    queries = encoder.encode_queries(list(evaluation_set.queries.values()))
    width = queries.shape[1]
    chosen = sample(
        evaluation_set, max_queries=_MOST_QUERIES, max_documents=_MOST_NUMBERS // width, seed=settings.seed
    )
    if len(chosen.queries) < len(evaluation_set.queries):
        queries = encoder.encode_queries(list(chosen.queries.values()))
    document_ids = sorted(chosen.corpus, reverse=True)
    documents = _vectors(encoder, evaluation_set, document_ids, shards)
    by_size: dict[tuple[int, Precision, bool], NDArray[np.float64]] = {}
    for length in _lengths(sizes, width, trained, model):
        short = [_cut(vectors, length) for vectors in (queries, documents)]
        for precision in dict.fromkeys(("float32", *sizes.precisions)):
            for rescored, ranks in _ranks(short[0], short[1], precision, bool(chosen.own_documents)):
                by_size[length, precision, rescored] = _ndcg(ranks, document_ids, chosen)
    return SizeTable(
        set=evaluation_set.name,
        model=model,
        queries=len(chosen.queries),
        clusters=len(set(chosen.clusters)),
        documents=len(document_ids),
        sampled=chosen is not evaluation_set and len(document_ids) < len(evaluation_set.corpus),
        threshold=settings.smallest,
        trained=tuple(trained),
        sizes=tuple(_compared(by_size, width, chosen.clusters, settings)),
    )


def _vectors(encoder: Encoder, whole: EvaluationSet, keys: Sequence[str], shards: Path | None) -> Floats:
    """Vectors of some documents of a set; taken from the disk where those of all of them lie there."""
    from multigrain.evaluation.retrieval import stored_vectors

    every = sorted(whole.corpus, reverse=True)
    stored = stored_vectors(encoder, View(every, whole.corpus.__getitem__), shards)
    if stored is None:
        return encoder.encode_documents([whole.corpus[key] for key in keys])
    wanted = set(keys)
    return stored.gather(np.array([place for place, key in enumerate(every) if key in wanted], dtype=np.int64))


def _lengths(sizes: SizeSettings, width: int, trained: Sequence[int], model: str) -> list[int]:
    """The lengths to try, the whole first."""
    asked = sizes.lengths
    if asked is None:
        asked = tuple(trained) or tuple(width // part for part in (2, 4) if width // part >= 1)
    fitting = [length for length in asked if length <= width]
    if asked and not fitting:
        raise EvaluationError(
            f"vector lengths: {', '.join(map(str, asked))} are more than the {width} numbers that {model} gives; "
            "name shorter ones"
        )
    return sorted({width, *fitting}, reverse=True)


def _cut(vectors: Floats, length: int) -> Floats:
    """The first numbers, scaled to length 1 where the whole vectors have that."""
    from multigrain.encoders.protocol import unit_length

    lengths = np.linalg.norm(vectors, axis=1)
    is_unit = bool((np.abs(lengths[lengths > 0] - 1) < _UNIT).all())
    short = np.ascontiguousarray(vectors[:, :length])
    return unit_length(short) if is_unit and length < vectors.shape[1] else short


def _ranks(
    queries: Floats, documents: Floats, precision: Precision, own: bool
) -> Iterator[tuple[bool, NDArray[np.int64]]]:
    """Positions of the nearest documents, best first, without and (of codes) with rescoring: (queries, about 10)."""
    depth = 10 + own
    if precision in ("float32", "float16"):
        if precision == "float16":
            queries, documents = (each.astype(np.float16).astype(np.float32) for each in (queries, documents))
        yield False, top_k(queries, documents, depth)[1]
        return
    query_codes, codes, meant = _codes(queries, documents, precision)
    candidates = top_k(query_codes, codes, CANDIDATES + own)[1]
    yield False, candidates[:, :depth]
    yield True, _rescored(queries, meant, candidates)[:, :depth]


def _codes(queries: Floats, documents: Floats, precision: Precision) -> tuple[Floats, Floats, Floats]:
    """Codes of queries and of documents as numbers whose product orders, and what the documents' codes stand for."""
    from sentence_transformers.util import quantize_embeddings

    if precision == "binary":
        signs = [
            np.unpackbits(quantize_embeddings(each, "ubinary"), axis=1, count=each.shape[1]).astype(np.float32) * 2 - 1
            for each in (queries, documents)
        ]
        return signs[0], signs[1], signs[1]
    ranges = np.stack([documents.min(axis=0), documents.max(axis=0)])
    codes = [
        np.asarray(quantize_embeddings(each, "int8", ranges=ranges), dtype=np.float32) for each in (queries, documents)
    ]
    steps = (ranges[1] - ranges[0]) / 255
    meant = (codes[1] + 128) * np.where(steps == 0, 1, steps).astype(np.float32) + ranges[0]
    return codes[0], codes[1], np.asarray(meant, dtype=np.float32)


def _rescored(queries: Floats, documents: Floats, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """The candidates in the order of their product with the queries; equal ones in the order of the documents."""
    ordered = np.sort(candidates, axis=1)
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        scores = np.einsum("qd,qcd->qc", queries[rows], documents[ordered[rows]])
        ordered[rows] = np.take_along_axis(ordered[rows], np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return ordered


def _ndcg(ranks: NDArray[np.int64], document_ids: list[str], chosen: EvaluationSet) -> NDArray[np.float64]:
    from multigrain.evaluation.metrics import NDCG_AT_10, measure_queries

    own = chosen.own_documents
    rankings = {
        query_id: [key for position in row if not ((key := document_ids[position]) == query_id and query_id in own)][
            :10
        ]
        for query_id, row in zip(chosen.queries, ranks.tolist(), strict=True)
    }
    figures = measure_queries(rankings, chosen.qrels, {"ndcg": NDCG_AT_10})
    return np.array([figures[query_id]["ndcg"] for query_id in chosen.queries])


def _compared(
    by_size: dict[tuple[int, Precision, bool], NDArray[np.float64]],
    width: int,
    clusters: Sequence[str],
    settings: CompareSettings,
) -> Iterator[VectorSize]:
    """The whole vectors, and every size against them."""
    settings = replace(settings, samples=min(settings.samples, _MOST_SIGNS))
    whole = by_size.pop((width, "float32", False))
    yield VectorSize(width, "float32", False, _bytes(width, "float32"), float(whole.mean()), None, None, True)
    losses = {key: _loss(scores - whole, settings, clusters) for key, scores in by_size.items()}
    corrected = holm([loss.p_value for loss in losses.values()])
    sizes = []
    for (key, loss), adjusted_p in zip(losses.items(), corrected, strict=True):
        length, precision, rescored = key
        enough = (
            _can_tell(by_size[key] - whole, clusters)
            and loss.low > -settings.smallest
            and adjusted_p < 1 - settings.confidence
        )
        size = _bytes(length, precision)
        sizes.append(
            VectorSize(length, precision, rescored, size, float(by_size[key].mean()), loss, adjusted_p, enough)
        )
    order = list(PRECISIONS)
    yield from sorted(sizes, key=lambda size: (-size.bytes, -size.length, order.index(size.precision), size.rescored))


def _can_tell(differences: NDArray[np.float64], clusters: Sequence[str]) -> bool:
    """Whether an interval of these differences can be relied on: enough clusters differ, or there are many."""
    differing = {cluster for cluster, each in zip(clusters, differences, strict=True) if each}
    return len(differing) >= ENOUGH_CLUSTERS or len(set(clusters)) >= MANY


def _loss(differences: NDArray[np.float64], settings: CompareSettings, clusters: Sequence[str]) -> PairedDifference:
    low, high = difference_interval(differences, settings, clusters)
    p_value = 1.0  # an upper bound, and enough to turn it down
    if low > -settings.smallest:
        p_value = randomisation_p_value(differences + settings.smallest, settings, clusters)
    return PairedDifference(float(differences.mean()), low, high, p_value)


def _bytes(length: int, precision: Precision) -> int:
    return math.ceil(length * _BITS[precision] / 8)


def size_lines(table: SizeTable) -> Iterator[str]:
    """The table as Markdown, and what is advised."""
    yield f"| {table.set}: {table.model} | bytes | 1 million | nDCG@10 | points | enough |"
    yield "|---|---|---|---|---|---|"
    for size in table.sizes:
        loss = size.loss
        points = "" if loss is None else f"{100 * loss.mean:+.1f} [{100 * loss.low:+.1f}, {100 * loss.high:+.1f}]"
        enough = "–" if loss is None else "yes" if size.enough else "not shown"
        cells = (size.words, f"{size.bytes:,}", million(size), f"{size.score:.3f}", points, enough)
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"{table.sentence}."


def plain_table(table: SizeTable) -> dict[str, Any]:
    """A table as JSON-like values, with what is advised."""
    return {**asdict(table), "advised": asdict(table.advised), "sentence": table.sentence}


def read_tables(values: Sequence[dict[str, Any]]) -> tuple[SizeTable, ...]:
    """Tables from what `plain_table` made of them.

    Raises:
        ValueError: they are something else.
    """
    return TypeAdapter(tuple[SizeTable, ...]).validate_python(list(values))


def million(size: VectorSize) -> str:
    """What the vectors of a million documents take, without an index around them."""
    megabytes = size.bytes
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 1000 else f"{megabytes} MB"
