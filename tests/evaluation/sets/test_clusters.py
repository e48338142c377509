"""Which queries go together, and that whatever compares them heeds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from multigrain.config import EvaluationSetConfig
from multigrain.errors import EvaluationError
from multigrain.evaluation.per_query import query_rows, read_per_query, write_per_query
from multigrain.evaluation.results import summarise_set
from multigrain.evaluation.retrieval import score_ranking
from multigrain.evaluation.sets.loading import load_evaluation_set, parse_set
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, cluster_queries, from_queries, sample
from multigrain.evaluation.settings import CompareSettings
from multigrain.records import Document

DOCUMENTS = [f"d{number}" for number in range(12)]


def asked(qrels: dict[str, dict[str, int]], **more: object) -> EvaluationSet:
    corpus = dict.fromkeys(DOCUMENTS, "text") | {key: "text" for grades in qrels.values() for key in grades}
    return EvaluationSet("s", "test", "people", corpus, dict.fromkeys(qrels, "words"), qrels, **more)  # type: ignore[arg-type]


@given(
    st.dictionaries(
        st.integers(0, 40).map(str),
        st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(1, 3), min_size=1, max_size=3),
        min_size=1,
    )
)
def test_every_query_is_in_one_cluster_and_its_cluster_is_what_answers_it(qrels: dict[str, dict[str, int]]) -> None:
    clusters = cluster_queries(qrels)
    assert len(clusters) == len(qrels)
    assert all(cluster in qrels[key] or cluster == key for key, cluster in zip(qrels, clusters, strict=True))
    # Queries with the same only answer are never told apart, where documents are told apart at all.
    only = {key: next(iter(grades)) for key, grades in qrels.items() if len(grades) == 1}
    named = dict(zip(qrels, clusters, strict=True))
    if any(cluster in DOCUMENTS for cluster in clusters):
        assert all(named[key] == answer for key, answer in only.items())


def test_queries_about_chunks_of_a_document_are_a_cluster() -> None:
    qrels = {f"q{number}": {f"manual{number // 3}#{number % 3 + 1}": 1} for number in range(18)}
    assert asked(qrels).clusters == tuple(f"manual{number // 3}" for number in range(18))


def test_a_judgment_that_does_not_answer_makes_no_cluster() -> None:
    qrels = {f"q{number}": {"d0": 0, f"d{number}": 1} for number in range(1, 9)}
    assert len(set(asked(qrels).clusters)) == 8


def test_near_duplicates_of_a_run_are_one_document() -> None:
    corpus = [Document(str(number), f"text {number}", group=number // 2) for number in range(20)]
    made = from_queries(
        [(str(number), f"query {number}") for number in range(20)], corpus, name="test", role="test", provenance="p"
    )
    assert len(set(made.clusters)) == 10
    assert len(set(sample(made, max_queries=15, seed=1).clusters)) < 15


def test_where_all_queries_are_about_one_document_its_parts_count_and_that_is_told() -> None:
    one = asked({f"q{number}": {f"manual#{number // 2 + 1}": 1} for number in range(20)})
    assert len(set(one.clusters)) == 10
    assert "all 20 queries are about one document" in one.remarks[0]
    same = asked({f"q{number}": {"d1": 1} for number in range(20)})
    assert same.clusters == tuple(same.queries)
    assert not asked({f"q{number}": {f"d{number}": 1} for number in range(8)}).remarks


def folder_of(path: Path, people: list[str | None]) -> Path:
    (path / "qrels").mkdir(parents=True)
    queries = [
        {"_id": f"q{number}", "text": f"words {number}", "metadata": {"person": person}, "topic": number % 2}
        for number, person in enumerate(people)
    ]
    corpus = [{"_id": f"d{number}", "text": f"text {number}"} for number in range(len(people))]
    for name, rows in (("queries", queries), ("corpus", corpus)):
        (path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    judged = "".join(f"q{number}\td{number}\t1\n" for number in range(len(people)))
    (path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")
    return path


def test_a_column_says_who_asked_and_others_of_what_kind_a_query_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", ["ann", "ann", "bob", None, "bob", "cid"])
    found = load_evaluation_set(parse_set(str(folder), "test", cluster_by="person", slice_by=["topic"]), seed=1)
    assert found.clusters == ("ann", "ann", "bob", "query q3", "bob", "cid")
    assert found.kinds == {"topic": {f"q{number}": str(number % 2) for number in range(6)}}
    assert not found.notes, "a column that is read is not reported as unused"
    with pytest.raises(EvaluationError, match=r"nothing in a column 'team'; its columns are 'person', '_id', 'text'"):
        load_evaluation_set(parse_set(str(folder), "test", cluster_by="team"), seed=1)


def test_a_column_with_one_value_is_refused_when_the_set_is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", ["ann"] * 6)
    with pytest.raises(EvaluationError, match="all 6 queries have 'ann' in the column 'person'"):
        load_evaluation_set(parse_set(str(folder), "test", cluster_by="person"), seed=1)
    mixed = folder_of(tmp_path / "mixed", ["ann"] * 5 + [None])
    assert len(set(load_evaluation_set(parse_set(str(mixed), "test", cluster_by="person"), seed=1).clusters)) == 2


def test_only_files_of_queries_have_columns() -> None:
    with pytest.raises(ValidationError, match="cluster_by names columns of a file of queries"):
        EvaluationSetConfig(name="s", path="mteb:SciFact", cluster_by="person")
    assert parse_set("mteb:SciFact", "test", cluster_by="person").cluster_by is None


def test_results_heed_clusters_say_how_many_and_keep_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    people = [str(number // 5) for number in range(40)]
    alone = asked(
        {f"q{number}": {f"d{number % 12}": 1} for number in range(40)},
        asked_by=dict.fromkeys((f"q{number}" for number in range(40)), "x")
        | {f"q{number}": f"q{number}" for number in range(40)},
    )
    together = replace(alone, asked_by={f"q{number}": person for number, person in enumerate(people)})

    def ranking(helped: set[str]) -> dict[str, list[str]]:
        return {
            key: [next(iter(alone.qrels[key]))] if people[int(key[1:])] in helped else ["d0"] for key in alone.queries
        }

    scores = {
        "base": score_ranking(ranking({"1", "2"}), alone),
        "tuned": score_ranking(ranking(set(rng.permutation(8)[:6].astype(str))), alone),
    }
    by_query, by_person = (summarise_set(each, scores, CompareSettings(samples=300)) for each in (alone, together))
    assert (by_query.clusters, by_person.clusters) == (40, 8)
    assert (by_query.cluster_words, by_person.cluster_words) == ("", "in 8 clusters")
    one, other = by_query.delta["tuned"], by_person.delta["tuned"]
    assert one.mean == other.mean
    assert other.high - other.low > 1.5 * (one.high - one.low)
    assert other.p_value > one.p_value

    write_per_query(tmp_path / "rows.parquet", query_rows(together, "tuned", scores["tuned"]))
    assert [row.cluster for row in read_per_query(tmp_path / "rows.parquet")] == people


def test_rows_of_an_earlier_version_have_no_cluster(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    made = asked({f"q{number}": {f"d{number}": 1} for number in range(6)})
    path = tmp_path / "rows.parquet"
    write_per_query(path, query_rows(made, "base", score_ranking({key: ["d1"] for key in made.queries}, made)))
    pq.write_table(pq.read_table(path).drop_columns(["cluster"]), path)
    assert [row.cluster for row in read_per_query(path)] == [None] * 6


def test_a_sample_keeps_columns_of_its_own_queries_alone() -> None:
    queries = {f"q{n}": f"query {n}" for n in range(20)}
    qrels = {key: {"d": 1} for key in queries}
    columns = {key: "rare" if key == "q7" else "usual" for key in queries}
    whole = EvaluationSet("s", "test", "judged", {"d": "text"}, queries, qrels, asked_by=columns, kinds={"k": columns})
    part = sample(whole, max_queries=5, seed=3)
    assert set(part.asked_by) == set(part.kinds["k"]) == set(part.queries)
