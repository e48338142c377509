from __future__ import annotations

import dataclasses
import html
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.errors import RunDirectoryError
from multigrain.llm.protocol import Completion, CompletionRequest, Message
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalEntry
from multigrain.report import load_report_data, render_report
from multigrain.report.summaries import Answers, HeldOut, count_answers, count_held_out, near_duplicates


def _text(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def test_titles_are_counted_as_the_evaluation_asks_them():
    table = pa.table(
        {
            "title": ["When will it arrive?", "when  will it ARRIVE?", None, " ", "Travel", None],
            "split": ["test"] * 5 + ["validation"],
        }
    )
    assert count_held_out(table) == {"test": HeldOut(5, 3, 2), "validation": HeldOut(1, 0, 0)}
    assert count_held_out(None) == {}


def test_groups_of_several_documents_are_named_and_counted():
    table = pa.table({"id": list("abcdefghij"), "group": [0, 0, 2, 3, 3, 3, 3, 7, 8, 8]})
    groups, first = near_duplicates(table)
    assert groups == 3
    assert first == (("a", "b"), ("d", "e", "f"), ("i", "j"))
    assert near_duplicates(None) == (0, ())


def _as_titles(run) -> None:
    """Make the test set one of the run's own titles, of 8 held-out documents: 2 untitled, one title twice."""
    evaluation = json.loads((run.results_path / "evaluation.json").read_text())
    for each in evaluation["sets"]:
        if each["role"] == "test":
            each |= {"name": "test", "label": "human-written titles", "queries": 5, "documents": 45, "clusters": 5}
    (run.results_path / "evaluation.json").write_text(json.dumps(evaluation))
    table = pq.read_table(run.documents_path).slice(0, 45).to_pylist()
    titles = ["A", "B", "B", "C", "D", "E", None, None]
    for place, row in enumerate(table):
        row["split"] = "test" if place < 8 else "train"
        row["title"] = titles[place] if place < 8 else row["title"]
        row["group"] = 1 if place in (1, 2) else place
    pq.write_table(pa.Table.from_pylist(table), run.documents_path)
    manifest = json.loads((run.path / "documents" / "manifest.json").read_text())
    manifest["counts"] |= {"documents": 45, "groups": 44, "train": 37, "validation": 0, "test": 8, "too_short": 1}
    manifest["counts"]["too_short_names"] = "canteen.txt"
    (run.path / "documents" / "manifest.json").write_text(json.dumps(manifest))


def test_the_page_says_why_there_are_fewer_queries_than_held_out_documents(own_run):
    _as_titles(own_run)
    ids = pq.read_table(own_run.documents_path)["id"].to_pylist()
    data = load_report_data(own_run)
    said = _text(render_report(data))
    assert data.held_out["test"] == HeldOut(8, 6, 5)
    assert "5 queries (human-written titles); answers are searched among 45 documents." in said
    assert "8 documents are held out for it: 2 have no title to ask with, and 1 repeats another's title." in said
    assert "1 more was too short to use ( canteen.txt )." in said
    assert f"1 group of near-duplicates, kept on one side of the split: {ids[1]} , {ids[2]}" in said
    other = dataclasses.replace(data, held_out={"test": HeldOut(8, 7, 6)})
    assert "are held out for it" not in _text(render_report(other))  # the counts do not explain it


def test_chunks_of_a_document_are_not_called_near_duplicates(own_run):
    _as_titles(own_run)
    data = load_report_data(own_run)
    data = dataclasses.replace(data, documents=dataclasses.replace(data.documents, chunked=3))
    assert "near-duplicates" not in render_report(data)


def _journal(path, reasons) -> None:
    with Journal(path) as journal:
        for place, reason in enumerate(reasons):
            answer = Completion("text", reason, "m")
            request = dataclasses.asdict(CompletionRequest((Message("user", "a question"),)))
            journal.record(
                JournalEntry(str(place), "stepwise", "local:m", request, answer, "2026-03-01T09:30:00+00:00")
            )


def test_answers_that_were_cut_are_counted_from_the_journal_and_shown(own_run):
    _journal(own_run.journal_path, ["stop", "length", "length"])
    data = load_report_data(own_run)
    assert data.answers == Answers(3, 2)
    assert "Of its 3 answers, 2 were cut at the token limit." in _text(render_report(data))
    whole = dataclasses.replace(data, answers=Answers(3, 0))
    assert "Of its 3 answers, none were cut at the token limit." in _text(render_report(whole))


def test_no_journal_is_no_error_and_a_broken_one_is_named(own_run):
    assert count_answers(own_run.journal_path) is None
    own_run.journal_path.write_bytes(b"no journal" * 99)
    with pytest.raises(RunDirectoryError, match=r"journal\.sqlite"):
        load_report_data(own_run)


def test_who_wrote_is_said_with_its_size_and_a_small_one_with_what_writes_better(example):
    data = load_report_data(example)

    def page(model):
        synthesis = dataclasses.replace(data.synthesis, model=model)
        return _text(render_report(dataclasses.replace(data, synthesis=synthesis)))

    small = page("local:SmolLM2-135M-Instruct.Q4_1.gguf:44a49a59291c")
    assert "Written by local:SmolLM2-135M-Instruct.Q4_1.gguf , a model of 135 million parameters by its name." in small
    assert "A larger model at an endpoint writes better queries: docs/guides/endpoints.md" in small
    assert "larger model at an endpoint" not in page("openai:Qwen/Qwen2.5-7B-Instruct")
    assert "by its name" not in page("openai:gpt-4.1-mini")


def test_nobody_is_said_to_have_written_given_queries(example):
    data = load_report_data(example)
    silent = dataclasses.replace(data.synthesis, completion_tokens=0, prompt_tokens=0)
    page = _text(render_report(dataclasses.replace(data, synthesis=silent, answers=Answers(0, 0))))

    assert "no language model: the queries were given" in page
    assert "Written by local" not in page


def test_who_wrote_the_negatives_is_told_in_counts(example):
    data = load_report_data(example)
    held, judged = data.written_order
    assert judged == sum(row.written_order_held is not None for row in data.rows)
    assert held == sum(row.written_order_held is True for row in data.rows)
    none = dataclasses.replace(data.audit, negatives_written=0, negatives_mined=128, written_candidates=8)
    said = _text(render_report(dataclasses.replace(data, audit=none, written_order=(0, 2))))
    assert "Of these 128, the language model wrote none: all were mined from the documents." in said
    assert "The audit let 0 of the 8 that it wrote into the training data." in said
    assert "asked for in 0 of 2 rows" in said
