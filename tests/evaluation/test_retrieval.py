from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import (
    BM25Retriever,
    DenseRetriever,
    evaluate_retrieval,
    evaluate_retriever,
    score_ranking,
)
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.mining import search
from multigrain.mining.best import NO_ROW

# Few distinct values, negative ones and both zeros among them, so that ties are common.
_VALUES = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0])


class _Table:
    """Vectors by number, the texts being the numbers; notes the documents that each call asks for."""

    fingerprint = "table"

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.queries, self.documents = queries, documents
        self.calls: list[list[str]] = []

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.queries[[int(text) for text in texts]]

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        return self.documents[[int(text) for text in texts]]


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    queries=st.integers(1, 5),
    documents=st.integers(1, 30),
    depth=st.integers(1, 12),
    block=st.integers(1, 9),
    query_block=st.integers(1, 3),
)
def test_blocked_search_equals_a_full_stable_sort(
    data: st.DataObject, queries: int, documents: int, depth: int, block: int, query_block: int
) -> None:
    draw = st.lists(_VALUES, min_size=2, max_size=2)
    left = np.array([data.draw(draw) for _ in range(queries)], dtype=np.float32)
    right = np.array([data.draw(draw) for _ in range(documents)], dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_QUERY_BLOCK", query_block)
        ranked = DenseRetriever(_Table(left, right), block=block).rank(_numbers(queries), _numbers(documents), depth)
    expected = np.argsort(-(left @ right.T), axis=1, kind="stable")[:, :depth]
    np.testing.assert_array_equal(ranked, expected)


def test_each_document_is_asked_for_once_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "rounding_pays", lambda *sizes: True)  # a first pass would read the corpus twice
    table = _Table(np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32))
    DenseRetriever(table, block=2).rank(_numbers(5), _numbers(5), 3)
    assert table.calls == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize(
    ("document_vectors", "message"),
    [
        (np.full((4, 64), np.nan, dtype=np.float32), "not all finite.*lower the learning rate"),
        (np.zeros((4, 32), dtype=np.float32), "embed both with one model"),
    ],
)
def test_unusable_vectors_are_refused(
    word_hash, animals: EvaluationSet, document_vectors: np.ndarray, message: str
) -> None:
    word_hash.encode_documents = lambda texts: document_vectors[: len(texts)]
    with pytest.raises(EvaluationError, match=message):
        evaluate_retrieval(word_hash, animals)


def test_metrics_are_those_of_trec_eval_on_the_models_own_scores(word_hash, animals: EvaluationSet) -> None:
    scores = evaluate_retrieval(word_hash, animals)
    similarity = (
        word_hash.encode_queries(list(animals.queries.values()))
        @ word_hash.encode_documents(list(animals.corpus.values())).T
    )
    run = {
        query: dict(zip(animals.corpus, map(float, row), strict=True))
        for query, row in zip(animals.queries, similarity, strict=True)
    }
    judgments = {query: dict(grades) for query, grades in animals.qrels.items()}
    measures = {"ndcg_cut.10", "recall.10,100", "recip_rank"}
    expected = pytrec_eval.RelevanceEvaluator(judgments, measures).evaluate(run)
    for each in scores.queries:
        assert each.ndcg_at_10 == pytest.approx(expected[each.query_id]["ndcg_cut_10"])
        assert each.metrics["recall_at_10"] == pytest.approx(expected[each.query_id]["recall_10"])
        assert each.metrics["recall_at_100"] == pytest.approx(expected[each.query_id]["recall_100"])
        assert each.metrics["mrr_at_10"] == pytest.approx(expected[each.query_id]["recip_rank"])
    assert [each.query_id for each in scores.queries] == list(animals.queries)
    assert scores.ndcg_at_10 == pytest.approx(np.mean([each["ndcg_cut_10"] for each in expected.values()]))


def test_recall_sees_a_hundred_documents_and_the_reciprocal_rank_ten() -> None:
    ranking = [f"d{number}" for number in range(100)]
    chosen = EvaluationSet(
        name="deep",
        role="test",
        provenance="l",
        corpus=dict.fromkeys(ranking, "text"),
        queries={"q1": "a", "q2": "b", "q3": "c"},
        qrels={"q1": {"d9": 1, "d99": 1}, "q2": {"d10": 1}, "q3": {"d1": 0, "d3": 2}},
    )
    scores = score_ranking(dict.fromkeys(chosen.queries, ranking), chosen)

    assert [each.metrics["recall_at_10"] for each in scores.queries] == pytest.approx([0.5, 0.0, 1.0])
    assert scores.metrics["recall_at_100"] == 1
    assert scores.metrics["mrr_at_10"] == pytest.approx((1 / 10 + 0 + 1 / 4) / 3)


def test_equal_scores_rank_by_descending_id_as_trec_eval_does(animals: EvaluationSet) -> None:
    class Collapsed:
        def encode_queries(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 2), dtype=np.float32)

        encode_documents = encode_queries

    scores = evaluate_retrieval(Collapsed(), animals)
    run = {query: dict.fromkeys(animals.corpus, 1.0) for query in animals.queries}
    judgments = {query: dict(grades) for query, grades in animals.qrels.items()}
    expected = pytrec_eval.RelevanceEvaluator(judgments, {"ndcg_cut.10"}).evaluate(run)
    for each in scores.queries:
        assert each.top_ids == ("owl", "dog", "cat", "bee")
        assert each.ndcg_at_10 == pytest.approx(expected[each.query_id]["ndcg_cut_10"])


def test_the_first_relevant_rank_counts_from_one_and_grade_zero_is_not_relevant(animals: EvaluationSet) -> None:
    scores = score_ranking({"q1": ["dog", "cat"], "q2": ["dog", "bee"], "q3": []}, animals)
    assert [each.rank_of_first_relevant for each in scores.queries] == [2, None, None]
    assert scores.queries[2].ndcg_at_10 == 0.0
    assert scores.queries[2].top_ids == ()


def test_bm25_finds_shared_words_and_nothing_else(animals: EvaluationSet) -> None:
    scores = evaluate_retriever(BM25Retriever(), animals)
    assert scores.ndcg_at_10 > 0.8
    assert scores.queries[2].top_ids == ("bee",)


def test_bm25_of_unknown_words_or_wordless_documents_finds_nothing() -> None:
    assert BM25Retriever().rank(["zebra"], ["cat", "dog"], 5).tolist() == [[NO_ROW, NO_ROW]]
    assert BM25Retriever().rank(["cat"], ["...", "!"], 1).tolist() == [[NO_ROW]]
    assert BM25Retriever().rank(["cat", ""], ["!", "cat"], 1).tolist() == [[1], [NO_ROW]]


def test_a_document_with_the_querys_own_id_is_left_out_of_its_ranking_alone() -> None:
    documents = {"a": "owls hunt at night", "b": "owls hunt mice", "c": "hens sleep", "d": "hens sleep at night"}
    queries = {"a": "owls hunt at night", "c": "hens sleep", "q": "owls hunt mice"}
    qrels = {"a": {"b": 1}, "c": {"c": 1}, "q": {"a": 1, "b": 0}}
    own = EvaluationSet("s", "test", "people", documents, queries, qrels)
    renamed = replace(
        own,
        queries={f"query {key}": text for key, text in queries.items()},
        qrels={f"query {key}": grades for key, grades in qrels.items()},
    )

    scores, found = (evaluate_retriever(BM25Retriever(), chosen) for chosen in (own, renamed))

    assert own.own_documents == {"a"}, "a document that is judged relevant is not the query itself"
    assert scores.queries[0].top_ids == tuple(key for key in found.queries[0].top_ids if key != "a")
    assert [query.top_ids for query in scores.queries[1:]] == [query.top_ids for query in found.queries[1:]]
    assert scores.queries[0].rank_of_first_relevant == 1
    assert own.remarks == (
        "1 of 3 queries are documents too, by their ids (e.g. 'a'): left out of their own rankings, as BEIR and MTEB "
        "do",
    )
    assert not renamed.remarks
    ranked_elsewhere = replace(own, leaves_own_out=False)
    assert not ranked_elsewhere.own_documents
    assert not ranked_elsewhere.remarks
