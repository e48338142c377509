"""The held-out sets of a run: what answers a written query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multigrain.audit.heldout import write_heldout_positives
from multigrain.config import Config, EvaluationSetConfig
from multigrain.dataset.store import write_examples
from multigrain.evaluation.sets.loading import open_sets
from multigrain.evaluation.sets.run_sets import domain_sets, seen_queries
from multigrain.evaluation.sets.searched import SearchedDocuments, is_among, text_key
from multigrain.records import Document, GradedExample, Level, Negative, Origin, Split
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.heldout import dump_heldout_queries

DOCUMENTS = [Document(f"d{number}", f"text {number}", group=number, split=Split.TEST) for number in range(6)]


def test_documents_that_judges_found_to_answer_a_held_out_query_are_relevant(tmp_path: Path) -> None:
    held = RunDirectory(tmp_path)
    held.heldout_queries_path.parent.mkdir(parents=True)
    held.heldout_positives_path.parent.mkdir(parents=True)
    atomic_write(held.heldout_queries_path, dump_heldout_queries({"d0": "which is first?", "d1": "which is next?"}))
    (before,) = domain_sets(Config(), held, SearchedDocuments(DOCUMENTS))
    write_heldout_positives(held.heldout_positives_path, {"d0": ("d4", "d5")})

    (after,) = domain_sets(Config(), held, SearchedDocuments(DOCUMENTS))

    assert [set(relevant) for relevant in before.qrels.values()] == [{"d0"}, {"d1"}]
    assert [set(relevant) for relevant in after.qrels.values()] == [{"d0", "d4", "d5"}, {"d1"}]
    assert before.queries == after.queries


def test_documents_of_a_labelled_set_are_known_though_their_titles_stand_before_them(tmp_path: Path) -> None:
    documents = [
        Document(f"d{number}", f"What text {number} is about.", title=f"Title {number}" if number % 2 else None)
        for number in range(6)
    ]
    folder, held = tmp_path / "labelled", RunDirectory(tmp_path / "run")
    (folder / "qrels").mkdir(parents=True)
    held.dataset_path.parent.mkdir(parents=True)
    corpus = [{"_id": each.id, "title": each.title or "", "text": each.text} for each in documents]
    queries = [{"_id": f"q{each.id}", "text": f"which is {each.id}?"} for each in documents]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = [f"q{each.id}\t{each.id}\t1" for each in documents]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    near, mid, far, away = (Negative("no", level, Origin.MINED, 0.1) for level in Level)
    rows = [("r1", "d1", documents[1].text), ("r2", None, documents[2].text), ("r3", "d3", "The model wrote this.")]
    write_examples(
        held.dataset_path,
        [GradedExample(row, own, "asked", text, (near, mid, far, away), 0.5) for row, own, text in rows],
    )

    labelled = open_sets([EvaluationSetConfig(name="own", path=str(folder))], seed=0).retrieval

    assert seen_queries(labelled, held, SearchedDocuments(documents)) == {"own": {"qd1", "qd2", "qd3"}}


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["", " ", "One", "Two"]), st.sampled_from(["a text", "b text", "One a text"])),
        max_size=8,
    ),
    trained=st.sets(st.sampled_from(["a text", "b text", "One a text"])),
)
def test_a_text_is_known_in_both_forms_exactly_where_it_is_trained_on(
    parts: list[tuple[str, str]], trained: set[str]
) -> None:
    searched = SearchedDocuments(
        Document(f"d{number}", text, title=title) for number, (title, text) in enumerate(parts)
    )
    keys = searched.in_both_forms(np.array([text_key(text) for text in trained], dtype=np.uint64))

    expected = trained | {f"{title} {text}" for title, text in parts if title.strip() and text in trained}
    candidates = {text for _, text in parts} | {f"{title} {text}" for title, text in parts if title.strip()}
    assert {text for text in candidates if is_among(text_key(text), keys)} == expected & candidates
    assert list(keys) == sorted(keys)
