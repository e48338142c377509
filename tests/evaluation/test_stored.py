from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.evaluation.comparison import compare_stored
from multigrain.evaluation.per_query import query_rows, write_per_query
from multigrain.evaluation.results import EvaluationResults, summarise_set, write_results
from multigrain.evaluation.retrieval import BM25Retriever, evaluate_retrieval, evaluate_retriever
from multigrain.evaluation.rival import Rival, RivalScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, from_documents
from multigrain.evaluation.settings import CompareSettings
from multigrain.records import Document, Split
from multigrain.sources.store import write_document_table
from multigrain.storage.rundir import RunDirectory


def test_a_run_directory_brings_roles_labels_and_the_texts_of_its_own_documents(
    tmp_path: Path, word_hash, animals: EvaluationSet
) -> None:
    documents = [
        Document(
            key, text, title=f"{key} sleeps at night", group=place, split=Split.TEST if place else Split.VALIDATION
        )
        for place, (key, text) in enumerate(animals.corpus.items())
    ]
    # The set from elsewhere has a document of the same id and another text.
    elsewhere = EvaluationSet(
        "away",
        "forgetting",
        "given",
        {"cat": "other", "x": "words"},
        {"a": "x", "b": "other"},
        {"a": {"x": 1}, "b": {"cat": 1}},
    )
    sets = [
        from_documents(documents, Split.TEST, "test", "test"),
        elsewhere,
    ]
    run = RunDirectory(tmp_path)
    rows, summaries = [], []
    for each in sets:
        scores = {"base": evaluate_retrieval(word_hash, each), "tuned": evaluate_retriever(BM25Retriever(), each)}
        rows += [row for name, found in scores.items() for row in query_rows(each, name, found)]
        summaries.append(summarise_set(each, scores, CompareSettings(samples=100, seed=1)))
    write_document_table(run.documents_path, documents)
    write_per_query(run.results_path / "per_query.parquet", rows)
    write_results(
        run.results_path / "evaluation.json",
        EvaluationResults("tuned", ("base", "tuned"), tuple(summaries), 100, 0.95, 1),
    )

    found = compare_stored(tmp_path, base="base")
    assert [(each.result.name, each.result.role, each.result.provenance) for each in found.conclusions] == [
        ("test", "test", "human-written titles"),
        ("away", "forgetting", "given"),
    ]
    assert set(found.texts) == {"test"}, "ids of the set from elsewhere name other documents"
    assert found.texts["test"]["owl"] == animals.corpus["owl"]


def test_a_rival_of_a_run_can_be_what_its_models_are_compared_with(
    tmp_path: Path, word_hash, animals: EvaluationSet
) -> None:
    run, settings = RunDirectory(tmp_path), CompareSettings(samples=100, seed=1)
    own = {"base": evaluate_retrieval(word_hash, animals), "tuned": evaluate_retrieval(word_hash, animals)}
    rival = evaluate_retriever(BM25Retriever(), animals)
    rows = [row for name, found in {**own, "bm25": rival}.items() for row in query_rows(animals, name, found)]
    write_per_query(run.results_path / "per_query.parquet", rows)
    write_results(
        run.results_path / "evaluation.json",
        EvaluationResults(
            "tuned",
            ("base", "tuned"),
            (summarise_set(animals, own, settings),),
            100,
            0.95,
            1,
            rivals=(Rival("bm25", "bm25", sets={animals.name: RivalScores(rival.ndcg_at_10, {}, {})}),),
        ),
    )

    found = compare_stored(tmp_path, base="bm25")

    assert {each.model: each.base_score for each in found.conclusions} == pytest.approx(
        dict.fromkeys(own, rival.ndcg_at_10)
    )
    assert "bm25" in str(found)
