"""Labelled sets of the user's own that choose the model: what they decide, and what they must not prove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.stages.chat_endpoint import WORDS, ChatEndpoint, run_values

from multigrain.config.file import parse_config
from multigrain.display.progress import SilentProgress
from multigrain.evaluation.comparison import compare_stored
from multigrain.evaluation.results import read_results
from multigrain.stages import run, run_stages

pytestmark = pytest.mark.usefixtures("api_key")


class _Heard(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def _documents(corpus_file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in corpus_file.read_text().splitlines()]


def _beir(folder: Path, corpus: list[dict[str, str]], queries: dict[str, str]) -> str:
    """A BEIR folder over a corpus, from document id to the query that it answers."""
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": each["id"], "text": each["text"]}) for each in corpus]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    asked = [json.dumps({"_id": f"q-{key}", "text": text}) for key, text in queries.items()]
    (folder / "queries.jsonl").write_text("\n".join(asked))
    judged = [f"q-{key}\t{key}\t1" for key in queries]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    return str(folder)


def _set(folder: Path, corpus: list[dict[str, str]], name: str, role: str, start: int) -> dict[str, str]:
    queries = {each["id"]: each["title"] for each in corpus[start : start + 15]}
    return {"name": name, "path": _beir(folder / name, corpus, queries), "role": role}


def _values(tmp_path: Path, corpus_file: Path, model: Path, url: str, queries: str) -> dict[str, Any]:
    corpus = _documents(corpus_file)
    values = run_values(corpus_file, model, url)
    values["audit"]["checks"] = {"language": False}
    values["training"] |= {"learning_rate": 0.01, "candidates": {"mean": {}, "merged": {"merge": "auto"}}}
    values["evaluation"] |= {
        "queries": queries,
        "sets": [
            _set(tmp_path, corpus, "faq", "validation", 0),
            _set(tmp_path, corpus, "forum", "validation", 15),
            _set(tmp_path, corpus, "own", "test", 30),
        ],
    }
    return values


@pytest.mark.parametrize("queries", ["none", "titles"])
def test_own_validation_sets_choose_by_their_mean_and_prove_nothing(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, queries: str
) -> None:
    heard = _Heard()
    values = _values(tmp_path, corpus_file, small_bert, endpoint.url, queries)
    finished = run(parse_config(values), tmp_path / "run", progress=heard)

    results = read_results(finished.results_path / "evaluation.json")
    found = {each.name: each for each in results.sets}
    names = ("base", "mean", "merged")
    means = {name: sum(found[each].models[name].score for each in ("faq", "forum")) / 2 for name in names}
    by = "mean nDCG@10 over validation sets faq, forum"
    assert results.chosen == max(names, key=lambda name: means[name])
    assert (results.chosen_on, results.chosen_by) == (("faq", "forum"), by)
    assert results.chosen != "base"
    assert set(found["own"].models) == {"base", results.chosen}, "what judges is scored once the choice is made"
    own = {"faq": "validation", "forum": "validation", "own": "test"}
    assert {each.name: each.role for each in results.sets} == (
        own if queries == "none" else {**own, "validation": "validation", "test": "test"}
    )
    listed = ", ".join(f"{name} {means[name]:.3f}" for name in names)
    assert f"{results.chosen} chosen by {by}: {listed}" in heard.lines
    assert any(line.startswith("faq (validation, ") for line in heard.lines)

    tried = finished.manifest("models/merged").counts["merged_by_validation"]
    share = f"{finished.manifest('models/merged').counts['merged']:g}"
    assert tried[share] == pytest.approx(means["merged"], abs=1e-4), "the same sets choose the share"

    compared = compare_stored(finished.path, base="base", samples=100)
    assert {each.result.role for each in compared.conclusions} == {"test"}
    page = finished.report_path.read_text()
    assert f"was chosen among 2 tuned models by {by}, not by the test queries" in page
    assert page.count("Chose the model, so it flatters the chosen one.") == 2
    assert page.count("it neither chose the model nor proves anything") == (queries == "titles")


@pytest.mark.parametrize("passages", [False, True])
def test_training_never_sees_what_chooses(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, passages: bool
) -> None:
    corpus = _documents(corpus_file)
    asked = {
        # What the endpoint will ask of the document; or nothing like it, so that only the passage gives it away.
        each["id"]: f"w{number} w{number // 7}" if passages else " ".join(_words(each["text"])[:4])
        for number, each in enumerate(corpus[:40])
    }
    values = run_values(corpus_file, small_bert, endpoint.url)
    path = _beir(tmp_path / "faq", corpus, asked)
    values["evaluation"]["sets"] = [{"name": "faq", "path": path, "role": "validation"}]
    values["audit"]["checks"] = {"language": False}
    values["audit"]["decontamination"] = {"sets": ["evaluation"], "passages": passages, "max_similarity": 1.0}
    finished = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit"])

    kept = {row["document_id"] for row in pq.read_table(finished.dataset_path).to_pylist()}
    assert kept
    assert kept.isdisjoint(asked)
    assert finished.manifest("dataset").counts["rejected"]["contaminated"] > 0


def _words(text: str) -> list[str]:
    return [word for word in text.split() if word in WORDS]
