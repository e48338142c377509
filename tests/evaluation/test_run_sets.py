"""The held-out sets of a run: what answers a written query."""

from __future__ import annotations

from pathlib import Path

from multigrain.audit.heldout import write_heldout_positives
from multigrain.config import Config
from multigrain.evaluation.sets.run_sets import domain_sets
from multigrain.evaluation.sets.searched import SearchedDocuments
from multigrain.records import Document, Split
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
