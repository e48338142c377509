from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from multigrain.config import EngineConfig
from multigrain.display.progress import SilentProgress
from multigrain.encoders.distributed import DistributedEncoder
from multigrain.encoders.reference import deferred_encoder
from multigrain.engine.build import build_engine
from multigrain.engine.local import LocalEngine
from multigrain.mining.corpus import CorpusFiles, TextList
from multigrain.mining.distributed import DistributedSearch
from multigrain.mining.job import PairFile, mine
from multigrain.mining.rules import MiningRules
from multigrain.mining.search import top_k
from multigrain.mining.vectors import corpus_vectors


@dataclasses.dataclass(frozen=True)
class Hashes:
    """Embeds a text as its hash says."""

    fingerprint: str = "hashes"

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        vectors = np.asarray([np.random.default_rng(seed).normal(size=16) for seed in seeds], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


TEXTS = [f"text number {n}" for n in range(2_500)]
PAIRS = PairFile(tuple(f"query {n}" for n in range(30)), tuple((TEXTS[n],) for n in range(30)))


def test_vectors_from_workers_are_in_order_and_a_large_corpus_lies_on_disk(tmp_path: Path) -> None:
    here = Hashes().encode_documents(TEXTS)
    with LocalEngine(computing=3) as engine:
        there = DistributedEncoder(Hashes(), engine)
        np.testing.assert_array_equal(there.encode_documents(TEXTS), here)
        store = corpus_vectors(there, TEXTS, tmp_path / "vectors", in_memory=100, shard_rows=700)
        nearest = DistributedSearch(str(tmp_path / "vectors"), engine)(here[:40], 5, None, np.zeros(2_500, dtype=bool))
    np.testing.assert_array_equal(store[0:2_500], here)
    for mine_, true in zip(nearest, top_k(here[:40], here, 5), strict=True):
        np.testing.assert_array_equal(mine_, true)
    assert len(list((tmp_path / "vectors").glob("shard-*"))) == 4


def test_mining_on_an_engine_gives_what_it_gives_here(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for shard in range(3):  # a folder of shards is one corpus
        part = TEXTS[shard * 900 : (shard + 1) * 900]
        (corpus / f"{shard}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    rules = MiningRules(negatives=4, absolute_margin=0.01)
    with LocalEngine(computing=2) as engine:
        mine(
            PAIRS, CorpusFiles((str(corpus),)), rules, Hashes(), store=str(tmp_path / "a"), out=tmp_path / "a.jsonl",
            engine=engine,
        )  # fmt: skip
    summary = mine(PAIRS, TextList(TEXTS), rules, Hashes(), store=str(tmp_path / "b"), out=tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    assert summary.corpus == 2_500


def test_a_long_exact_search_is_announced_with_its_alternative(tmp_path: Path) -> None:
    class Heard(SilentProgress):
        lines: ClassVar[list[str]] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    rules = MiningRules(negatives=2)
    outputs = {"store": str(tmp_path / "a"), "out": tmp_path / "a.jsonl"}
    mine(PAIRS, TextList(TEXTS), rules, Hashes(), progress=Heard(), **outputs)
    assert Heard.lines == []
    mine(PAIRS, TextList(TEXTS), rules, Hashes(), progress=Heard(), flops_per_core=1.0, **outputs)

    (line,) = Heard.lines
    assert "30 queries in 2,500 texts" in line
    assert "--approximate" in line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_workers_embed_with_the_real_model_and_mine_the_same(tmp_path: Path) -> None:
    config = EngineConfig(kind="ray", workers=2, cpus_per_worker=0.5, object_store_mb=100)
    rules = MiningRules(negatives=3, absolute_margin=0.01)
    texts = TextList([f"A note about {word} and {other}" for word in WORDS for other in WORDS])
    pairs = PairFile(("what of rivers?", "what of bread?"), ((texts.texts[0],), (texts.texts[9],)))
    with build_engine(config) as engine:
        mine(
            pairs, texts, rules, deferred_encoder("auto"), store=str(tmp_path / "a"), out=tmp_path / "a.jsonl",
            engine=engine,
        )  # fmt: skip
    mine(pairs, texts, rules, deferred_encoder("auto"), store=str(tmp_path / "b"), out=tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


WORDS = ("rivers", "bread", "stars", "knots", "violins", "bridges", "ovens", "sails")


@dataclasses.dataclass(frozen=True)
class Cutting(Hashes):
    """Reads so many characters of a text."""

    reads: int = 100

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        return super().encode_documents([text[: self.reads] for text in texts])


def test_a_model_that_reads_more_of_a_text_finds_no_vectors_of_one_that_read_less(tmp_path: Path) -> None:
    texts = [f"{'long ' * 40}{number}" for number in range(5)]

    for reads in (100, 1_000):
        encoder = Cutting(fingerprint=f"reads {reads}", reads=reads)
        store = corpus_vectors(encoder, texts, tmp_path / "vectors", in_memory=1)
        np.testing.assert_array_equal(store[0:5], encoder.encode_documents(texts))
