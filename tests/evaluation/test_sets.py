from __future__ import annotations

from dataclasses import replace

import pytest

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.retrieval_set import (
    SYNTHETIC_ESTIMATE,
    EvaluationSet,
    from_documents,
    from_queries,
    sample,
)
from multigrain.records import Document, Split


def document(key: str, text: str, title: str | None = None, split: Split = Split.TEST) -> Document:
    return Document(id=key, text=text, title=title, split=split)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": {}}, "corpus is empty"),
        ({"queries": {}}, "no queries"),
        ({"queries": {"q1": " \n", "q2": "owl", "q3": "bee"}}, "query 'q1' is empty"),
        ({"qrels": {"q1": {"cat": 1}, "q2": {"owl": 1}}}, "query 'q3' has no relevant document"),
        ({"qrels": {"q1": {"cat": 0}, "q2": {"owl": 1}, "q3": {"bee": 1}}}, "query 'q1' has no relevant document"),
        (
            {"qrels": {"q1": {"cow": 1}, "q2": {"owl": 1}, "q3": {"bee": 1}}},
            "query 'q1' name document 'cow', which is not among the 4 documents",
        ),
        (
            {"qrels": {"q1": {"cat": 1}, "q2": {"owl": 1}, "q3": {"bee": 1}, "q9": {"cat": 1}}},
            "name query 'q9', which is not among the 3 queries",
        ),
    ],
)
def test_a_set_that_cannot_be_scored_is_refused_in_one_line(
    animals: EvaluationSet, change: dict[str, object], message: str
) -> None:
    with pytest.raises(EvaluationError) as caught:
        replace(animals, **change)
    assert message in str(caught.value)
    assert "animals" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_titles_of_the_split_become_queries_over_the_whole_corpus() -> None:
    documents = [
        document("a", "sorts a list in place", "Sort a list"),
        document("b", "opens a file", "Open a file", Split.TRAIN),
        document("c", "no title here"),
    ]
    made = from_documents(documents, Split.TEST, "own", "test")
    assert dict(made.queries) == {"q-a": "Sort a list"}
    assert set(made.corpus) == {"a", "b", "c"}
    assert made.qrels["q-a"] == {"a": 1}


def test_documents_that_answer_as_well_are_relevant_too() -> None:
    documents = [
        document("a", "Sorts a list.", "Sort"),
        document("same-text", "sorts  a\nLIST.", "Other words", Split.TRAIN),
        document("same-title", "Another way to sort.", "  SORT ", Split.TRAIN),
        document("twin-of-title", "another way to sort.", None, Split.TRAIN),
        document("unrelated", "Opens a file.", "Open", Split.TRAIN),
    ]
    made = from_documents(documents, Split.TEST, "own", "test")
    assert set(made.qrels["q-a"]) == {"a", "same-text", "same-title", "twin-of-title"}


def test_titles_that_nobody_can_tell_apart_are_one_query() -> None:
    documents = [document("a", "first text", "Overview"), document("b", "second text", "overview ")]
    made = from_documents(documents, Split.TEST, "own", "test")
    assert dict(made.queries) == {"q-a": "Overview"}
    assert made.qrels["q-a"] == {"a": 1, "b": 1}


def test_documents_without_titles_say_what_to_do() -> None:
    documents = [document("a", "text"), document("b", "text", "A title", Split.TRAIN)]
    with pytest.raises(EvaluationError, match="none of the 1 test documents has a title"):
        from_documents(documents, Split.TEST, "own", "test")


def test_written_queries_keep_their_label_and_must_name_known_documents() -> None:
    corpus = [document("a", "text one"), document("b", "text two")]
    made = from_queries([("b", "which is two?")], corpus, name="s", role="test", provenance=SYNTHETIC_ESTIMATE)
    assert made.provenance == "synthetic estimate"
    assert made.qrels == {"q-b": {"b": 1}}
    with pytest.raises(EvaluationError, match="document 'z', which is not among the 2"):
        from_queries([("z", "?")], corpus, name="s", role="test", provenance="x")
    with pytest.raises(EvaluationError, match="'a' occurs twice"):
        from_queries([("a", "?")], [*corpus, corpus[0]], name="s", role="test", provenance="x")


def test_a_sample_is_seeded_and_never_loses_an_answer() -> None:
    whole = EvaluationSet(
        name="n",
        role="test",
        provenance="l",
        corpus={f"d{i}": f"text {i}" for i in range(200)},
        queries={f"q{i}": f"query {i}" for i in range(100)},
        qrels={f"q{i}": {f"d{i}": 1, f"d{i + 100}": 0} for i in range(100)},
    )
    part = sample(whole, max_queries=10, max_documents=50, seed=3)
    assert len(part.queries) == 10
    assert len(part.corpus) == 50
    assert all(key in part.corpus for grades in part.qrels.values() for key in grades)
    assert list(part.corpus) == [key for key in whole.corpus if key in part.corpus], "order is kept"

    shuffled = replace(
        whole, corpus=dict(reversed(whole.corpus.items())), queries=dict(reversed(whole.queries.items()))
    )
    again = sample(shuffled, max_queries=10, max_documents=50, seed=3)
    assert set(again.corpus) == set(part.corpus)
    assert set(again.queries) == set(part.queries)
    assert set(sample(whole, max_queries=10, seed=4).queries) != set(part.queries)

    crowded = sample(whole, max_queries=10, max_documents=5, seed=3)
    assert set(crowded.corpus) == {key for grades in crowded.qrels.values() for key in grades}
    assert sample(whole, seed=3) == whole


def test_each_query_of_a_document_is_asked_by_itself() -> None:
    corpus = [document("d1", "about alpha"), document("d2", "about beta")]
    asked = [("d1", "Who is alpha?"), ("d1", "when was alpha born"), ("d2", "When was ALPHA born"), ("d1", "where")]
    made = from_queries(asked, corpus, name="s", role="test", provenance="x")

    assert list(made.queries.values()) == ["Who is alpha?", "when was alpha born", "where"]
    relevant = {made.queries[key]: set(grades) for key, grades in made.qrels.items()}
    assert relevant == {"Who is alpha?": {"d1"}, "when was alpha born": {"d1", "d2"}, "where": {"d1"}}
    assert next(iter(made.queries)) == "q-d1"
    assert made.queries == from_queries(asked, corpus, name="s", role="test", provenance="x").queries
