"""Mine hard negatives for a file of pairs: read, embed, search, write."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from multigrain.config import PromptsConfig, fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.engine.protocol import Engine
from multigrain.errors import ConfigError, SourceError
from multigrain.mining.approximate import ApproximateSearch
from multigrain.mining.corpus import CorpusFiles, TextList, shards_of
from multigrain.mining.distributed import Embedder, SpreadEmbedder, SpreadSearch, write_shards
from multigrain.mining.lexical import LexicalIndex
from multigrain.mining.mine import Keys, Mined, QueryBlock, Search, mine_negatives
from multigrain.mining.rules import MiningRules, text_keys
from multigrain.mining.search import Floats
from multigrain.mining.vectors import ShardWork, VectorStore, missing_shards, write_shard
from multigrain.sources.files import read_rows
from multigrain.storage.files import atomic_write

if TYPE_CHECKING:
    from multigrain.encoders.reference import ReferenceModel

__all__ = [
    "MinePlan",
    "MineSummary",
    "ModelEmbedder",
    "PairFile",
    "embed_corpus",
    "mine",
    "plan",
    "read_pairs",
]

_SHARD_ROWS: Final = 16_384
_FLOPS_A_CORE: Final = 1e11  # of a float32 product with AVX-512, as measured; half of that with AVX2


@dataclass(frozen=True)
class PairFile:
    """Queries with their positives.

    Attributes:
        queries: different queries, in the order of their first row.
        positives: for each query its positives, at least one.
        names: what the file calls the two columns.
    """

    queries: tuple[str, ...]
    positives: tuple[tuple[str, ...], ...]
    names: tuple[str, str] = ("query", "positive")


@dataclass(frozen=True)
class MinePlan:
    """What a mining job would do.

    Attributes:
        queries: how many.
        pairs: query-positive pairs.
        corpus: texts to choose from.
        embedded: corpus texts whose vectors are in the store already.
    """

    queries: int
    pairs: int
    corpus: int
    embedded: int


@dataclass
class MineSummary:
    """What a mining job did, as `--json` prints it."""

    queries: int
    pairs: int
    corpus: int
    rows: int = 0
    negatives: int = 0
    short: int = 0
    search: str = "exact"
    recall: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def read_pairs(path: Path, query: str | None, positive: str | None) -> PairFile:
    """Read a JSONL, CSV, TSV or Parquet file of pairs; several rows of one query are several positives.

    Args:
        path: the file.
        query: the query's column; None for the first of query, anchor, question.
        positive: the positive's column, a text or a list of texts; None for the first of positive, answer, passage,
            document, text.

    Raises:
        SourceError: the file cannot be read, or a row lacks a column or holds something else than text.
    """
    found: dict[str, dict[str, None]] = {}
    names: tuple[str, str] | None = None
    for number, row in read_rows(path):
        if names is None:
            names = (
                _column(row, query, ("query", "anchor", "question"), path),
                _column(row, positive, ("positive", "answer", "passage", "document", "text"), path),
            )
        asked, answers = row.get(names[0]), row.get(names[1])
        texts: list[Any] = answers if isinstance(answers, list) else [answers]
        if not isinstance(asked, str) or not asked.strip() or not texts:
            raise SourceError(f"{path}, line {number}: {names[0]!r} holds no text")
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise SourceError(f"{path}, line {number}: {names[1]!r} holds no text")
        found.setdefault(asked, {}).update(dict.fromkeys(texts))
    if names is None:
        raise SourceError(f"{path}: no pairs in the file")
    return PairFile(tuple(found), tuple(tuple(each) for each in found.values()), names)


def plan(pairs: PairFile, corpus: CorpusFiles | TextList, store: str, identity: str) -> MinePlan:
    """What mining would do, without embedding anything."""
    names: list[str] = []
    total = 0

    def counted() -> Iterator[Sequence[str]]:
        nonlocal total
        for lot in shards_of(iter(corpus), _SHARD_ROWS):
            total += len(lot)
            yield lot

    missing = sum(len(work.texts) for work in missing_shards(store, identity, counted(), names))
    return MinePlan(len(pairs.queries), sum(len(each) for each in pairs.positives), total, total - missing)


def embed_corpus(
    texts: Iterable[str],
    place: str,
    identity: str,
    write: Callable[[Iterator[ShardWork]], Iterable[int]],
    *,
    progress: Progress | None = None,
) -> tuple[VectorStore, Keys]:
    """Embed a corpus into a store, going on where an earlier call stopped.

    Args:
        texts: the corpus, read once.
        place: the store.
        identity: of the model.
        write: embeds shards and puts them into the store, here or on a cluster; yields the rows of each.
        progress: who is told.

    Returns:
        The store, and each row's text key.
    """
    names: list[str] = []
    keys: list[Keys] = []

    def lots() -> Iterator[Sequence[str]]:
        for lot in shards_of(iter(texts), _SHARD_ROWS):
            keys.append(text_keys(list(lot)))
            yield lot

    with (progress or SilentProgress()).task("Embedding the corpus", None) as task:
        for rows in write(missing_shards(place, identity, lots(), names)):
            task.advance(rows)
    if not names:
        raise SourceError("the corpus holds no text")
    return VectorStore.finish(place, identity, names), np.concatenate(keys)


def mine(
    pairs: PairFile,
    corpus: CorpusFiles | TextList,
    rules: MiningRules,
    embedder: Embedder,
    *,
    store: str,
    out: Path,
    form: Literal["n-tuple", "triplet", "labeled-list"] = "n-tuple",
    scores: bool = False,
    recall: float | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> MineSummary:
    """Mine and write.

    Args:
        pairs: queries and positives.
        corpus: where negatives come from.
        rules: which.
        embedder: the model.
        store: keeps the corpus' vectors.
        out: a .parquet or .jsonl file, with sentence-transformers' columns.
        form: n-tuple (anchor, positive, negative_1…), triplet (a row a negative), labeled-list (texts and labels).
        scores: add the similarities.
        recall: search approximately, at this recall and better; None searches exactly.
        engine: embeds and searches on its workers; the store is then one that they all share. None does it here.
        progress: who is told.
    """
    if out.suffix not in (".parquet", ".jsonl"):
        raise ConfigError(f"{out}: expected a .parquet or .jsonl file to write")
    progress = progress or SilentProgress()
    summary = MineSummary(len(pairs.queries), sum(len(each) for each in pairs.positives), 0)
    clock = time.monotonic()
    vectors, keys = embed_corpus(corpus, store, embedder.identity, _writer(store, embedder, engine), progress=progress)
    summary.corpus = len(vectors)
    block = _query_block(pairs, embedder if engine is None else SpreadEmbedder(embedder, engine))
    summary.seconds["embedding"], clock = round(time.monotonic() - clock, 3), time.monotonic()
    search: Search | None = None if engine is None else SpreadSearch(store, engine)
    if recall is not None:
        graph = ApproximateSearch(vectors)
        measured = graph.tune(block.vectors, depth=min(rules.depth, 100), wanted=recall, seed=rules.seed)
        summary.recall = round(measured.value, 4)
        summary.search = "approximate" if measured.value >= recall else "exact"
        progress.say(
            f"approximate search finds {measured.value:.1%} of the {measured.depth} nearest"
            + ("" if summary.search == "approximate" else f", less than {recall:.1%}: searching exactly")
        )
        search = graph if summary.search == "approximate" else search
    elif engine is None and (hours := _hours(len(block), vectors)) > 1:
        progress.say(
            f"exact search of {len(block):,} queries in {len(vectors):,} texts takes about {hours:,.0f} hours here; "
            "--approximate 0.95 takes minutes, and measures what it misses"
        )
    lexical = None if rules.fuse == "dense" else LexicalIndex(list(corpus))
    with progress.task("Mining", len(block)) as task:
        mined = []
        for each in mine_negatives(block, vectors, keys, rules, search=search, lexical=lexical):
            mined.append(each)
            task.advance()
    summary.seconds["mining"] = round(time.monotonic() - clock, 3)
    texts = corpus.pick({int(row) for each in mined for row in each.indices})
    wanted = 4 if rules.bands is not None else rules.negatives
    full = [each for each in mined if len(each.indices) == wanted]
    kept = full if form == "n-tuple" else [each for each in mined if len(each.indices)]
    summary.short = len(mined) - len(full)
    rows = [row for each in kept for row in _rows(each, pairs, texts, block, form, with_scores=scores)]
    if not rows:
        raise SourceError(
            f"mining: no query has {wanted} negatives among {summary.corpus} texts: lower the margins, ask for fewer "
            "(--negatives), or give more texts (--corpus)"
        )
    summary.rows, summary.negatives = len(rows), sum(len(each.indices) for each in kept)
    _write_rows(out, rows)
    return summary


def _hours(queries: int, vectors: VectorStore) -> float:
    """About how long exact search takes on this machine's cores."""
    return 2.0 * queries * len(vectors) * vectors.dimensions / (_FLOPS_A_CORE * (os.cpu_count() or 1)) / 3600


def _writer(place: str, embedder: Embedder, engine: Engine | None) -> Callable[[Iterator[ShardWork]], Iterable[int]]:
    if engine is None:
        return lambda works: _write_here(works, place, embedder)
    return lambda works: write_shards(engine, works, place, embedder)


def _write_here(works: Iterator[ShardWork], place: str, embedder: Embedder) -> Iterator[int]:
    for work in works:
        write_shard(place, work.name, embedder.embed_passages(work.texts))
        yield len(work.texts)


def _query_block(pairs: PairFile, embedder: Embedder) -> QueryBlock:
    """Queries with their vectors and, several positives taken into account, what they exclude."""
    texts = list(dict.fromkeys(text for each in pairs.positives for text in each))
    places = {text: place for place, text in enumerate(texts)}
    queries, positives = embedder.embed_queries(pairs.queries), embedder.embed_passages(texts)
    own, theirs = text_keys(list(pairs.queries)), text_keys(texts)
    lowest = [
        min(float(vector @ positives[places[text]]) for text in each)
        for vector, each in zip(queries, pairs.positives, strict=True)
    ]
    excluded = [
        [int(key), *(int(theirs[places[text]]) for text in each)]
        for key, each in zip(own, pairs.positives, strict=True)
    ]
    return QueryBlock(queries, np.asarray(lowest, dtype=np.float32), excluded, pairs.queries)


def _rows(
    mined: Mined,
    pairs: PairFile,
    texts: dict[int, str],
    block: QueryBlock,
    form: str,
    *,
    with_scores: bool,
) -> Iterator[dict[str, Any]]:
    """The rows of one query in sentence-transformers' columns."""
    query = pairs.queries[mined.query]
    negatives = [texts[int(row)] for row in mined.indices]
    similar = [round(float(score), 6) for score in mined.similarities]
    positive_score = round(float(block.positive_similarities[mined.query]), 6)
    for positive in pairs.positives[mined.query]:
        base = {"anchor": query, "positive": positive}
        if form == "triplet":
            for negative, score in zip(negatives, similar, strict=True):
                yield base | {"negative": negative} | ({"scores": [positive_score, score]} if with_scores else {})
        elif form == "labeled-list":
            labels = {"labels": [1] + [0] * len(negatives)}
            extra = {"scores": [positive_score, *similar]} if with_scores else labels
            yield {"anchor": query, "documents": [positive, *negatives], **extra}
        else:
            columns = {f"negative_{place}": text for place, text in enumerate(negatives, start=1)}
            yield base | columns | ({"scores": [positive_score, *similar]} if with_scores else {})


def _write_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    if out.suffix == ".jsonl":
        atomic_write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    atomic_write(out, sink.getvalue().to_pybytes())


def _column(row: dict[str, Any], given: str | None, usual: Sequence[str], path: Path) -> str:
    for name in [given] if given is not None else usual:
        if name in row:
            return name
    wanted = repr(given) if given is not None else " or ".join(usual)
    raise SourceError(f"{path}: no column {wanted}; it has {', '.join(repr(name) for name in row)}")


@dataclass(frozen=True)
class ModelEmbedder:
    """A model by its reference, loaded when it is first used; may be sent to another process.

    Attributes:
        reference: a folder, a hub id, `package:NAME` or `auto`.
        batch_size: texts encoded at once.
        trust_remote_code: run code that comes with it.
        query_prompt: put before every query; None for the model's own prompt, if it has one.
        document_prompt: put before every passage; None as above.
    """

    reference: str
    batch_size: int = 64
    trust_remote_code: bool = False
    query_prompt: str | None = None
    document_prompt: str | None = None

    @property
    def identity(self) -> str:
        """The model's fingerprint: weights, settings and prompts, wherever it lies."""
        from multigrain.encoders.encoder import model_fingerprint

        return fingerprint("vectors", model_fingerprint(self._model().model))

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised, with the query prompt."""
        return self._model().embed_queries(texts)

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised, with the document prompt."""
        return self._model().embed_passages(texts)

    def _model(self) -> ReferenceModel:
        from multigrain.encoders.reference import named_model

        return named_model(
            self.reference,
            self.batch_size,
            self.trust_remote_code,
            PromptsConfig(query=self.query_prompt, document=self.document_prompt),
        )
