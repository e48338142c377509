"""The copy of a report that may be passed on."""

from __future__ import annotations

import base64
import dataclasses
import html
import itertools
import re

import pyarrow.parquet as pq
import pytest

from multigrain.evaluation.per_query import read_per_query
from multigrain.report import load_report_data, render_report, write_shared_report
from multigrain.report.sharing import PathCutter, without_texts
from multigrain.storage.shards import table_files

from .example_run import REASONS, ExampleRun, build_run

PRIVATE = (
    "document", "title", "document_id", "id", "query", "positive", "negative", "rejected", "detail", "anchor_text",
    "token", "config", "source", "team", "skipped",
)  # fmt: skip


def _tagged(path):
    """A run whose every private text is a word that stands nowhere else, and those words."""
    numbers = itertools.count()
    words = []

    def text(field, usual):
        if field not in PRIVATE:
            return usual
        words.append(f"zq{field.replace('_', '')}{next(numbers)}zq")
        return words[-1]

    return build_run(path, ExampleRun(rows=40, queries=80, text=text)), words


def test_no_text_of_the_run_is_in_the_copy(tmp_path):
    run, words = _tagged(tmp_path / "run")
    whole = render_report(load_report_data(run))
    seen = [word for word in words if word in whole]
    assert {re.sub(r"\d|zq", "", word) for word in seen} >= {"query", "positive", "negative", "rejected", "detail"}

    copy = write_shared_report(run).read_text(encoding="utf-8")
    assert [word for word in words if word in _decoded(copy)] == []


def test_no_text_of_any_artifact_is_in_the_copy(example):
    copy = html.unescape(_decoded(render_report(without_texts(load_report_data(example)))))
    texts = set()
    for table in (example.documents_path, example.dataset_path, example.rejects_path):
        for file in table_files(table):
            for column in pq.read_table(file).to_pylist():
                texts |= set(_strings(column))
    texts |= {row.query for row in read_per_query(example.results_path / "per_query.parquet")}
    texts -= {detail for _, detail in REASONS.values()}  # the audit's own words
    long = {text for text in texts if len(text.split()) >= 3}
    assert len(long) > 300
    assert [text for text in long if text in copy] == []
    beginnings = {" ".join(text.split()[:5]) for text in long if len(text.split()) >= 8}
    assert [text for text in beginnings if text in copy] == []


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _decoded(page):
    """A page together with what its links hold."""
    held = re.findall(r"base64,([\w+/=]+)", page)
    return page + "".join(base64.b64decode(each).decode() for each in held)


def test_the_figures_stay_and_the_copy_says_what_it_is(example):
    data = load_report_data(example)
    copy = render_report(without_texts(data))
    whole = render_report(data)
    for wanted in (
        "Tuning raised nDCG@10",
        "From asked for to kept",
        'id="similarity"',
        'id="training"',
        "tuned_mean",
    ):
        assert wanted in whole
        assert wanted in copy
    assert "A copy to be passed on" in copy
    assert "A copy to be passed on" not in whole
    for section in ("samples", "explorer", "anchors"):
        assert f'id="{section}"' in whole
        assert f'id="{section}"' not in copy
    assert len(copy) < len(whole)
    for verdict in ("better", "no difference that matters", "not enough queries to tell"):
        assert copy.count(f">{verdict}<") == whole.count(f">{verdict}<")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/models/acme encoder", "acme encoder"),
        ("~/models/acme", "acme"),
        ("../models/acme/", "acme"),
        ("models/own/acme", "acme"),
        ("C:\\Users\\me\\acme.gguf", "acme.gguf"),
        ("file:///data/queries.jsonl", "queries.jsonl"),
        ("1 of 6 judgments left out of /data/secret/qrels.tsv, which names none", None),
        ("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
        ("openai:gpt-4o", "openai:gpt-4o"),
        ("https://host.example/v1/models", "https://host.example/v1/models"),
        ("2 / 3 and 95% and either/or", "2 / 3 and 95% and either/or"),
    ],
)
def test_paths_are_cut_to_their_last_part(text, shown):
    expected = "1 of 6 judgments left out of qrels.tsv, which names none" if shown is None else shown
    assert PathCutter()(text) == expected


def test_models_that_differ_in_their_folder_alone_stay_apart():
    cut = PathCutter()
    assert cut({"/a/model": 1, "/b/model": 2}) == {"model": 1, "model (2)": 2}
    assert cut("/b/model") == "model (2)"


def test_paths_of_models_are_gone_from_the_page(example):
    data = load_report_data(example)
    synthesis = dataclasses.replace(data.synthesis, model="/srv/secret/model.gguf")
    rivals = tuple(dataclasses.replace(each, reference="/srv/secret/rival") for each in data.evaluation.rivals)
    evaluation = dataclasses.replace(data.evaluation, rivals=rivals, chosen_by="nDCG@10 on /srv/secret/validation")
    copy = render_report(without_texts(dataclasses.replace(data, synthesis=synthesis, evaluation=evaluation)))
    assert "model.gguf" in copy
    assert "nDCG@10 on validation" in copy
    assert "secret" not in copy
    assert "/srv" not in copy
