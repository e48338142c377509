"""What smaller vectors lose, against sentence-transformers' own search and on a real model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_usearch

from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.results import read_results, unselected_results, write_results
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings, SizeSettings
from multigrain.evaluation.vector_sizes import CANDIDATES, MANY, SizeTable, measure_sizes, million, size_lines

SETTINGS = CompareSettings(samples=500)
TOPICS = ("cats", "dogs", "owls", "bees", "rivers", "engines", "clocks", "roads", "ships", "songs")


class GivenVectors:
    """An encoder of vectors that are there already, by their texts."""

    fingerprint = "given"

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.by_text = {f"q{row}": vector for row, vector in enumerate(queries)}
        self.by_text |= {f"d{row}": vector for row, vector in enumerate(documents)}

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.by_text[text] for text in texts])

    encode_documents = encode_queries


def drawn(queries: int, documents: int, width: int, seed: int = 0) -> tuple[GivenVectors, EvaluationSet]:
    """Queries near one document each, so that there is something to lose."""
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(documents, width))
    asked = texts[:queries] + 1.2 * rng.normal(size=(queries, width))
    vectors = [(each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in (asked, texts)]
    keys = [f"d{row}" for row in range(documents)]
    qrels = {f"q{row}": {f"d{row}": 1} for row in range(queries)}
    chosen = EvaluationSet(
        "drawn", "test", "l", dict(zip(keys, keys, strict=True)), {key: key for key in qrels}, qrels
    )
    return GivenVectors(*vectors), chosen


@pytest.mark.parametrize(("precision", "rescored"), [("int8", False), ("int8", True), ("binary", True)])
def test_codes_find_what_sentence_transformers_finds_with_them(precision: str, rescored: bool) -> None:
    encoder, chosen = drawn(60, 400, 64)
    table = measure_sizes(encoder, chosen, SizeSettings((), (precision,)), SETTINGS, model="m")
    queries, documents = (encoder.encode_queries(list(texts)) for texts in (chosen.queries, chosen.corpus))
    stored = "ubinary" if precision == "binary" else precision
    asked = queries if rescored else quantize_embeddings(queries, stored, calibration_embeddings=documents)
    hits, _ = semantic_search_usearch(
        asked,
        corpus_embeddings=quantize_embeddings(documents, stored, calibration_embeddings=documents),
        corpus_precision=stored,
        calibration_embeddings=documents,
        top_k=10,
        rescore=rescored,
        rescore_multiplier=CANDIDATES // 10,
        exact=True,
    )
    ranks = [[hit["corpus_id"] for hit in row].index(own) + 1 if own in {hit["corpus_id"] for hit in row} else None
             for own, row in enumerate(hits)]  # fmt: skip
    expected = np.mean([0 if rank is None else 1 / np.log2(rank + 1) for rank in ranks])
    (found,) = (size for size in table.sizes if size.precision == precision and size.rescored is rescored)
    # Equal Hamming distances at the edge of the candidates are broken otherwise there.
    assert found.score == pytest.approx(expected, abs=0.01 if precision == "binary" else 1e-6)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 1_000), width=st.integers(3, 40), queries=st.sampled_from([6, 30, 120, 150]))
def test_the_whole_is_the_evaluations_own_figure_and_what_is_enough_follows_the_rule(
    seed: int, width: int, queries: int
) -> None:
    encoder, chosen = drawn(queries, 160, width, seed)
    table = measure_sizes(encoder, chosen, SizeSettings(), SETTINGS, model="m")
    assert table.whole.score == pytest.approx(evaluate_retrieval(encoder, chosen).ndcg_at_10)
    assert (table.whole.length, table.whole.bytes, table.whole.loss) == (width, 4 * width, None)
    assert len({(size.length, size.precision, size.rescored) for size in table.sizes}) == len(table.sizes)
    for size in table.sizes[1:]:
        assert size.loss is not None
        assert size.loss.mean == pytest.approx(size.score - table.whole.score)
        assert size.adjusted_p is not None
        assert size.adjusted_p >= size.loss.p_value
        assert not size.enough or (size.loss.low > -0.01 and size.adjusted_p < 0.05)
        if queries >= MANY:
            assert size.enough == (size.loss.low > -0.01 and size.adjusted_p < 0.05)
    assert table.advised.enough
    assert all(size.bytes >= table.advised.bytes for size in table.sizes if size.enough)


def test_few_queries_shrink_nothing() -> None:
    encoder, chosen = drawn(6, 30, 16)
    exact = GivenVectors(
        encoder.encode_queries([f"d{row}" for row in range(6)]), np.stack(list(encoder.by_text.values()))[6:]
    )
    table = measure_sizes(exact, chosen, SizeSettings((), ("float16",)), SETTINGS, model="m")
    assert table.sizes[1].loss is not None
    assert table.sizes[1].loss.mean == 0, "six right answers lose nothing in float16"
    assert not table.sizes[1].enough, "and six queries are too few to show it"
    assert table.advised == table.whole
    assert "6 queries are too few for that" in table.sentence


def test_many_queries_show_what_is_enough_and_the_smallest_is_advised() -> None:
    encoder, chosen = drawn(400, 500, 96)
    table = measure_sizes(encoder, chosen, SizeSettings((48,), ("float16", "int8")), SETTINGS, model="m")
    enough = [(size.length, size.precision, size.rescored) for size in table.sizes if size.enough]
    assert enough[:2] == [(96, "float32", False), (96, "float16", False)]
    assert (96, "int8", True) in enough
    assert all(length == 96 for length, _, _ in enough), "half of what was drawn at random is lost with half of it"
    assert table.advised.bytes == 96
    assert "loses less than 1 point, in 96 bytes a document, 4 times less than 96 × float32" in table.sentence


def test_a_real_models_vectors_are_not_embedded_anew_and_binary_loses_more_than_int8(minilm, tmp_path: Path) -> None:
    things = {f"{topic}-{size}": f"{size} {topic} of the {place}" for topic in TOPICS
              for size, place in (("small", "north"), ("large", "south"), ("old", "village"))}  # fmt: skip
    queries = {f"q {key}": f"where are {text.split(' of ')[0]}" for key, text in things.items()}
    chosen = EvaluationSet("things", "test", "l", things, queries, {f"q {key}": {key: 1} for key in things})
    encoder = SentenceTransformerEncoder(minilm)
    with_cache = CachedEncoder(encoder, encoder.fingerprint, tmp_path)
    evaluate_retrieval(with_cache, chosen)

    def encodes(*_: object) -> None:
        raise AssertionError("every vector is there")

    encoder._encode = encodes  # type: ignore[method-assign]
    table = measure_sizes(with_cache, chosen, SizeSettings(), SETTINGS, model="minilm", trained=(64,))
    with_cache.close()
    assert {size.length for size in table.sizes} == {384, 64}, "the lengths it was trained for, and the whole"
    by_size = {(size.length, size.precision, size.rescored): size for size in table.sizes}
    assert by_size[384, "float16", False].score == pytest.approx(table.whole.score, abs=0.01)
    assert by_size[384, "int8", True].score >= by_size[64, "binary", False].score
    assert [by_size[384, name, False].bytes for name in ("float16", "int8", "binary")] == [768, 384, 48]


def test_a_document_that_is_the_query_is_left_out_here_too() -> None:
    encoder, chosen = drawn(20, 60, 16)
    renamed = replace(
        chosen,
        queries={f"d{row + 20}": f"d{row + 20}" for row in range(20)},
        qrels={f"d{row + 20}": {f"d{row}": 1} for row in range(20)},
    )
    assert renamed.own_documents
    table = measure_sizes(encoder, renamed, SizeSettings((8,), ("int8",)), SETTINGS, model="m")
    assert table.whole.score == pytest.approx(evaluate_retrieval(encoder, renamed).ndcg_at_10)


def test_vectors_that_are_no_unit_vectors_stay_so() -> None:
    encoder, chosen = drawn(20, 60, 16)
    for key in encoder.by_text:
        encoder.by_text[key] = encoder.by_text[key] * (1 + int(key[1:]) % 3)
    table = measure_sizes(encoder, chosen, SizeSettings((8,), ()), SETTINGS, model="m")
    cut = {key: vector[:8] for key, vector in encoder.by_text.items()}
    encoder.by_text = cut
    assert table.sizes[1].score == pytest.approx(evaluate_retrieval(encoder, chosen).ndcg_at_10)


def test_lengths_that_no_vector_has_are_refused_in_one_line() -> None:
    encoder, chosen = drawn(6, 20, 16)
    with pytest.raises(EvaluationError, match=r"^vector lengths: 512, 64 are more than the 16 numbers that m gives"):
        measure_sizes(encoder, chosen, SizeSettings((512, 64)), SETTINGS, model="m")
    table = measure_sizes(encoder, chosen, SizeSettings((512, 8), ()), SETTINGS, model="m")
    assert [size.length for size in table.sizes] == [16, 8]


def example() -> SizeTable:
    encoder, chosen = drawn(30, 60, 16)
    return measure_sizes(encoder, chosen, SizeSettings((8,), ("int8", "binary")), SETTINGS, model="m|x")


def test_tables_survive_the_file_and_can_be_read_as_text(tmp_path: Path) -> None:
    table = example()
    results = unselected_results(["m"], (), SETTINGS, vector_sizes=[table])
    path = tmp_path / "evaluation.json"
    write_results(path, results)
    assert read_results(path) == results
    (written,) = json.loads(path.read_text())["vector_sizes"]
    assert written["advised"]["bytes"] == table.advised.bytes
    lines = list(size_lines(table))
    assert len(lines) == 2 + len(table.sizes) + 2
    assert lines[-1] == f"{table.sentence}."
    assert million(table.whole) == "64 MB"
