"""Mine hard negatives for a file of pairs: read, embed, search, write."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from multigrain.config import fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.distributed import DistributedEncoder
from multigrain.encoders.protocol import Encoder
from multigrain.engine.protocol import Engine
from multigrain.errors import ConfigError, SourceError
from multigrain.mining.approximate import ApproximateSearch
from multigrain.mining.corpus import CorpusFiles, Passage, TextList
from multigrain.mining.distributed import DistributedSearch
from multigrain.mining.lexical import LexicalIndex
from multigrain.mining.mine import Keys, Mined, QueryBlock, Search, mine_negatives
from multigrain.mining.rules import MiningRules, word_keys
from multigrain.mining.vectors import SHARD_ROWS, VectorStore, embed_shards, missing_shards, shards_of
from multigrain.sources.words import fold_words
from multigrain.storage.columns import POSITIVE, QUERY, apart
from multigrain.storage.files import atomic_write
from multigrain.storage.labels import find_labels, is_match, only_matches, tell_if_all_match
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import read_rows

_LONGEST_TITLE: Final = 20  # words
_KEYS: Final = 2**64


@dataclass(frozen=True)
class PairFile:
    """Queries with their positives.

    Attributes:
        queries: different queries, in the order of their first row.
        positives: for each query its positives, at least one.
        reading: what became of the file's rows.
        notes: what is to be told of it.
    """

    queries: tuple[str, ...]
    positives: tuple[tuple[str, ...], ...]
    reading: Reading = field(default_factory=Reading, compare=False)
    notes: tuple[str, ...] = ()


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
    """Read a table of pairs; several rows of one query are several positives.

    Rows without a query or a positive, and rows whose label calls them no match, are left out and counted.

    Args:
        path: the file.
        query: the query's column; None for one by a usual name.
        positive: the positive's column, a text or a list of texts; None as above.

    Raises:
        SourceError: the file cannot be read, a row lacks a column or holds something else than text, or no row is
            usable.
    """
    positives_of: dict[str, dict[str, None]] = {}
    reading = Reading()
    labels = find_labels(lambda: read_rows(path))
    asked, answer = apart(query or QUERY, positive or POSITIVE)
    used = using(asked, positive, None if labels is None else labels.column)
    for row in read_rows(path):
        reading.see(row, used)
        text = row.text(asked, option="--query-field")
        column = reading.positive(row, answer)
        positives = only_matches(row, column, reading).texts(column, option="--positive-field")
        if text is None or not positives:
            reading.leave_out("no query or no positive", f"{row.place}: no text for the query or its positive")
        elif is_match(labels, row, reading):
            positives_of.setdefault(text, {}).update(dict.fromkeys(positives))
    if not positives_of:
        reasons = "".join(f"; {reason.first}" for reason in reading.left_out.values())
        raise SourceError(f"{path}: no pairs in the file{reasons}")
    tell_if_all_match(labels, reading, rows=reading.kept, queries=len(positives_of))
    notes = tuple(reading.lines(path.name))
    return PairFile(tuple(positives_of), tuple(map(tuple, positives_of.values())), reading, notes)


def plan(pairs: PairFile, corpus: CorpusFiles | TextList, store: str, fingerprint: str) -> MinePlan:
    """What mining would do, without embedding anything."""
    names: list[str] = []
    total = 0

    def counted() -> Iterator[Sequence[str]]:
        nonlocal total
        for batch in shards_of(corpus, SHARD_ROWS):
            total += len(batch)
            yield batch

    missing = sum(len(work.texts) for work in missing_shards(store, fingerprint, counted(), names))
    return MinePlan(len(pairs.queries), sum(len(positives) for positives in pairs.positives), total, total - missing)


def store_fingerprint(encoder: Encoder) -> str:
    """What shards of vectors are named by: the model's weights, settings and prompts, wherever it lies."""
    return fingerprint("vectors", encoder.fingerprint)


def mine(
    pairs: PairFile,
    corpus: CorpusFiles | TextList,
    rules: MiningRules,
    encoder: Encoder,
    *,
    store: str,
    out: Path,
    form: Literal["n-tuple", "triplet", "labeled-list"] = "n-tuple",
    scores: bool = False,
    recall: float | None = None,
    engine: Engine | None = None,
    flops_per_core: float = 1e11,
    progress: Progress | None = None,
) -> MineSummary:
    """Mine and write.

    Args:
        pairs: queries and positives.
        corpus: where negatives come from.
        rules: which.
        encoder: the model.
        store: keeps the corpus' vectors.
        out: a .parquet or .jsonl file, with sentence-transformers' columns.
        form: n-tuple (anchor, positive, negative_1…), triplet (a row a negative), labeled-list (texts and labels).
        scores: add the similarities.
        recall: search approximately, at this recall and better; None searches exactly.
        engine: embeds and searches on its workers; the store is then one that they all share. None does it here.
        flops_per_core: what a core multiplies in a second, for the time that is foretold: float32 with AVX-512, as
            measured; half of that with AVX2.
        progress: who is told.
    """
    if out.suffix not in (".parquet", ".jsonl"):
        raise ConfigError(f"{out}: expected a .parquet or .jsonl file to write")
    progress = progress or SilentProgress()
    summary = MineSummary(len(pairs.queries), sum(len(positives) for positives in pairs.positives), 0)
    clock = time.monotonic()
    key = store_fingerprint(encoder)

    text_keys_of: list[Keys] = []
    own = _OwnPassages(pairs)

    def texts_and_keys() -> Iterator[str]:
        passages = corpus.passages()
        while batch := list(islice(passages, SHARD_ROWS)):
            text_keys_of.append(word_keys([passage.text for passage in batch]))
            own.note(batch, text_keys_of[-1])
            yield from (passage.text for passage in batch)

    with progress.task("Embedding the corpus", None) as task:
        vectors = embed_shards(texts_and_keys(), store, key, encoder, engine=engine, advance=task.advance)
    keys = np.concatenate(text_keys_of)
    summary.corpus = len(vectors)
    block = _query_block(pairs, own, keys, encoder if engine is None else DistributedEncoder(encoder, engine))
    summary.seconds["embedding"], clock = round(time.monotonic() - clock, 3), time.monotonic()
    search: Search | None = None if engine is None else DistributedSearch(store, engine)
    if recall is not None:
        graph = ApproximateSearch(vectors)
        measured = graph.tune(block.vectors, depth=min(rules.depth, 100), recall=recall, seed=rules.seed)
        summary.recall = round(measured.value, 4)
        summary.search = "approximate" if measured.value >= recall else "exact"
        progress.say(
            f"approximate search finds {measured.value:.1%} of the {measured.depth} nearest"
            + ("" if summary.search == "approximate" else f", less than {recall:.1%}: searching exactly")
        )
        search = graph if summary.search == "approximate" else search
    elif engine is None and (hours := _hours(len(block), vectors, flops_per_core)) > 1:
        progress.say(
            f"exact search of {len(block):,} queries in {len(vectors):,} texts takes about {hours:,.0f} hours here; "
            "--approximate 0.95 takes minutes, and measures what it misses"
        )
    lexical = None if rules.fuse == "dense" else LexicalIndex(list(corpus))
    with progress.task("Mining", len(block)) as task:
        mined = []
        for query in mine_negatives(block, vectors, keys, rules, search=search, lexical=lexical):
            mined.append(query)
            task.advance()
    summary.seconds["mining"] = round(time.monotonic() - clock, 3)
    texts = corpus.pick({int(row) for query in mined for row in query.indices})
    per_query = 4 if rules.bands is not None else rules.negatives
    full = [query for query in mined if len(query.indices) == per_query]
    written = full if form == "n-tuple" else [query for query in mined if len(query.indices)]
    summary.short = len(mined) - len(full)
    rows = [row for query in written for row in _rows(query, pairs, texts, block, form, with_scores=scores)]
    if not rows:
        raise SourceError(
            f"mining: no query has {per_query} negatives among {summary.corpus} texts: lower the margins, ask for "
            "fewer (--negatives), or give more texts (--corpus)"
        )
    summary.rows, summary.negatives = len(rows), sum(len(query.indices) for query in written)
    _write_rows(out, rows)
    return summary


def _hours(queries: int, vectors: VectorStore, flops_per_core: float) -> float:
    """About how long exact search takes on this machine's cores."""
    return 2.0 * queries * len(vectors) * vectors.dimensions / (flops_per_core * (os.cpu_count() or 1)) / 3600


class _OwnPassages:
    """The keys of corpus texts that are a positive, with a title or without.

    Args:
        pairs: whose positives.
    """

    def __init__(self, pairs: PairFile) -> None:
        texts = list(dict.fromkeys(text for positives in pairs.positives for text in positives))
        self._keys = dict(zip(texts, word_keys(texts).tolist(), strict=True))
        self._with_title: dict[int, set[int]] = {key: set() for key in self._keys.values()}

    def note(self, passages: Sequence[Passage], keys: Keys) -> None:
        """Look through a part of the corpus for positives that stand there with a title.

        Args:
            passages: the part.
            keys: of its texts with their titles.
        """
        titled = [number for number, passage in enumerate(passages) if passage.body != passage.text]
        bodies = word_keys([passages[number].body for number in titled])
        for number, body in zip(titled, bodies.tolist(), strict=True):
            if body in self._with_title:
                self._with_title[body].add(int(keys[number]))

    def keys_of(self, positives: Sequence[str], corpus: frozenset[int]) -> list[int]:
        """The keys of all forms that a query's positives may have in the corpus: with a title, and without theirs.

        Args:
            positives: the query's.
            corpus: the keys of the corpus; of the forms without a title those that are there are kept.
        """
        keys = [self._keys[text] for text in positives]
        titled = sorted(other for key in keys for other in self._with_title[key])
        endings = {hash(ending) % _KEYS for text in positives for ending in _endings(text)}
        return [*keys, *titled, *sorted(endings & corpus)]


def _endings(text: str) -> Iterator[str]:
    """What a passage may be without its title: all but its first words, as long as most of it is left."""
    words = fold_words(text).split()
    for start in range(1, min(_LONGEST_TITLE, len(words) // 2) + 1):
        yield " ".join(words[start:])


def _query_block(pairs: PairFile, passages: _OwnPassages, keys: Keys, encoder: Encoder) -> QueryBlock:
    """Queries with their vectors and, several positives taken into account, what they exclude."""
    texts = list(dict.fromkeys(text for positives in pairs.positives for text in positives))
    row_of = {text: row for row, text in enumerate(texts)}
    queries, positives = encoder.encode_queries(pairs.queries), encoder.encode_documents(texts)
    own, there = word_keys(list(pairs.queries)), frozenset(keys.tolist())
    lowest = [
        min(float(vector @ positives[row_of[text]]) for text in own_positives)
        for vector, own_positives in zip(queries, pairs.positives, strict=True)
    ]
    excluded = [
        [int(key), *passages.keys_of(own_positives, there)]
        for key, own_positives in zip(own, pairs.positives, strict=True)
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
    every_score: dict[str, list[float]] = {"scores": [positive_score, *similar]} if with_scores else {}
    for positive in pairs.positives[mined.query]:
        base = {"anchor": query, "positive": positive}
        if form == "triplet":
            for negative, score in zip(negatives, similar, strict=True):
                yield base | {"negative": negative} | ({"scores": [positive_score, score]} if with_scores else {})
        elif form == "labeled-list":
            labels: dict[str, Any] = every_score or {"labels": [1] + [0] * len(negatives)}
            yield {"anchor": query, "documents": [positive, *negatives], **labels}
        else:
            yield base | {f"negative_{number}": text for number, text in enumerate(negatives, start=1)} | every_score


def _write_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    if out.suffix == ".jsonl":
        atomic_write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    atomic_write(out, sink.getvalue().to_pybytes())
