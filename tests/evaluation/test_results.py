from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from multigrain.errors import EvaluationError
from multigrain.evaluation.enough import chance_words
from multigrain.evaluation.per_query import query_rows, read_per_query, write_per_query
from multigrain.evaluation.results import (
    EvaluationResults,
    choose,
    plain_set,
    read_results,
    read_sets,
    summarise_set,
    write_results,
)
from multigrain.evaluation.retrieval import BM25Retriever, SetScores, evaluate_retrieval, evaluate_retriever
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings


@pytest.fixture
def scores(word_hash, animals: EvaluationSet) -> dict[str, SetScores]:
    return {"base": evaluate_retrieval(word_hash, animals), "tuned": evaluate_retriever(BM25Retriever(), animals)}


@pytest.mark.parametrize(
    ("queries", "clusters", "said"),
    [
        (4, 4, "4 validation queries are too few to choose by"),
        (300, 20, "300 validation queries in 20 clusters are too few to choose by"),
        (49, None, "49 validation queries are too few to choose by"),
        (50, None, ""),
        (300, 50, ""),
        (0, None, ""),
    ],
)
def test_few_validation_queries_are_told_with_what_to_do(queries: int, clusters: int | None, said: str) -> None:
    words = chance_words(queries, clusters)
    assert words.startswith(said)
    assert bool(words) == bool(said) == ("documents.validation_share" in words)


def test_results_survive_the_file_and_have_the_documented_shape(
    tmp_path: Path, animals: EvaluationSet, scores: dict[str, SetScores]
) -> None:
    results = EvaluationResults(
        chosen="tuned",
        models=("base", "tuned"),
        sets=(summarise_set(animals, scores, CompareSettings(samples=200, seed=3)),),
        bootstrap_samples=200,
        confidence=0.95,
        seed=3,
        chosen_on=("faq", "forum"),
    )
    path = tmp_path / "results" / "evaluation.json"
    write_results(path, results)
    assert read_results(path) == results

    written = json.loads(path.read_text())
    assert written["chosen_by"] == "validation nDCG@10"
    older = path.with_name("older.json")
    older.write_text(json.dumps({key: value for key, value in written.items() if key != "chosen_on"}))
    assert read_results(older) == replace(results, chosen_on=())
    (found,) = written["sets"]
    assert set(found) == {"name", "role", "label", "queries", "documents", "models", "delta", "metric", "clusters"}
    assert (found["queries"], found["documents"]) == (3, 4)
    assert set(found["models"]["base"]) == {
        "score",
        "recall_at_10",
        "recall_at_100",
        "mrr_at_10",
        "judged_at_10",
        "condensed",
    }
    assert set(found["delta"]) == {"tuned"}
    assert set(found["delta"]["tuned"]) == {"mean", "low", "high", "p_value"}
    difference = found["models"]["tuned"]["score"] - found["models"]["base"]["score"]
    assert found["delta"]["tuned"]["mean"] == pytest.approx(difference)


def test_per_query_rows_survive_the_file_and_give_the_means_back(
    tmp_path: Path, animals: EvaluationSet, scores: dict[str, SetScores]
) -> None:
    rows = [row for name, each in scores.items() for row in query_rows(animals, name, each)]
    path = tmp_path / "per_query.parquet"
    write_per_query(path, rows)
    found = read_per_query(path)
    assert [(row.model, row.query_id, row.top_ids) for row in found] == [
        (row.model, row.query_id, row.top_ids) for row in rows
    ]
    base = [row.ndcg_at_10 for row in found if row.model == "base"]
    assert np.mean(base) == pytest.approx(scores["base"].ndcg_at_10, abs=1e-6)
    assert next(row for row in found if row.query_id == "q2").relevant_ids == ("owl", "cat"), "grade 0 is not relevant"

    schema = pq.read_schema(path)
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "set": "string",
        "model": "string",
        "query_id": "string",
        "query": "string",
        "ndcg_at_10": "float",
        "recall_at_10": "float",
        "rank_of_first_relevant": "int32",
        "top_ids": "list<element: string>",
        "relevant_ids": "list<element: string>",
        "cluster": "string",
    }


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for read in (read_results, read_per_query):
        with pytest.raises(EvaluationError, match="missing"):
            read(missing)
    odd = tmp_path / "odd.json"
    for text in ("[]", "{", '{"models": [], "sets": []}', '{"models": [], "sets": [{"name": "x"}]}'):
        odd.write_text(text)
        with pytest.raises(EvaluationError, match="not evaluation results of this version"):
            read_results(odd)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_per_query(odd)


def test_validation_chooses_the_best_and_the_earlier_of_equals() -> None:
    assert choose({"a": 0.5, "b": 0.7, "c": 0.6}) == "b"
    assert choose({"b": 0.7, "a": 0.7}) == "b"
    with pytest.raises(EvaluationError, match="no model to choose from"):
        choose({})


def test_what_was_left_out_of_a_set_is_kept_with_its_figures(
    animals: EvaluationSet, scores: dict[str, SetScores]
) -> None:
    notes = ("corpus.jsonl: 1 of 9 documents left out",)
    noted = summarise_set(replace(animals, notes=notes), scores, CompareSettings(samples=200))

    assert plain_set(noted)["notes"] == notes
    assert read_sets([json.loads(json.dumps(plain_set(noted)))]) == (noted,)
