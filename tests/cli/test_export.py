"""`multigrain export`: from a run directory and from a folder, what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from sentence_transformers import SentenceTransformer
from tests.conftest import SUBJECTS, VERBS
from typer.testing import CliRunner

from multigrain.cli import export
from multigrain.config import TrainingConfig
from multigrain.config.file import parse_config
from multigrain.dataset.store import write_examples
from multigrain.errors import ConfigError, ExportError, ModelError, StageOrderError
from multigrain.export.job import open_run
from multigrain.model.encoder import build_encoder, load
from multigrain.model.replacing import pooling_name
from multigrain.model.reranker import build_reranker, save_reranker
from multigrain.records import Document, GradedExample, Level, Negative, Origin, Split
from multigrain.sources.store import write_document_table
from multigrain.storage.rundir import RunDirectory

TEXTS = ["river flows", "w1 w2 w3 engine"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(export.export)
    return app


@pytest.fixture
def run(small_bert: Path, tmp_path: Path) -> RunDirectory:
    """A run as its stages leave it: documents, training rows, a chosen ATA model and the last manifest."""
    run = RunDirectory(tmp_path / "handbook")
    splits = {7: Split.VALIDATION, 8: Split.TEST, 9: Split.TEST}
    documents = [
        Document(
            id=f"d{number}",
            text=f"{SUBJECTS[number % 10]} {VERBS[number // 6]} w{number} w{number + 1}",
            title=f"{SUBJECTS[number % 10]} w{number}",
            group=number,
            split=splits.get(number % 10, Split.TRAIN),
        )
        for number in range(60)
    ]
    write_document_table(run.documents_path, documents)
    negatives = tuple(Negative(f"w{100 + level}", level, Origin.MINED, 0.1 * level) for level in Level)
    rows = [
        GradedExample(f"r{number}", f"d{number}", f"which w{number}?", documents[number].text, negatives, 0.9)
        for number in range(7)
    ]
    write_examples(run.dataset_path, rows)
    config = parse_config({"documents": {"path": str(tmp_path / "corpus.jsonl")}})
    run.config_path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    build_encoder(str(small_bert), pooling="ata", device="cpu").save_pretrained(str(run.model_path))
    run.finish("results", "made for a test", {}, 0.0)
    return run


@pytest.fixture
def run_of_both(run: RunDirectory, small_bert: Path) -> RunDirectory:
    """The same run, which tuned two rerankers too."""
    candidates = {"tuned": {}, "reranker": {"kind": "reranker"}, "other": {"kind": "reranker"}}
    _put_candidates(run, candidates)
    for name in ("reranker", "other"):
        values = {"kind": "reranker", "base_model": str(small_bert), "max_seq_length": 32}
        settings = TrainingConfig.model_validate(values)
        save_reranker(build_reranker(settings.resolve("tuned"), device="cpu"), run.candidate_path(name))
    return run


def _put_candidates(run: RunDirectory, candidates: dict[str, object]) -> None:
    values = yaml.safe_load(run.config_path.read_text())
    values["training"]["candidates"] = candidates
    run.config_path.write_text(yaml.safe_dump(values, sort_keys=False))


def call(app: typer.Typer, *words: str | Path) -> dict[str, object]:
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return summary


def test_a_runs_ata_model_is_refused_and_then_distilled(app: typer.Typer, run: RunDirectory) -> None:
    with pytest.raises(ExportError, match=r"handbook: vLLM computes mean, cls, last pooling .*--distil"):
        CliRunner().invoke(app, [str(run.path), "--to", "vllm"], catch_exceptions=False)
    assert not (run.path / "exports" / "vllm").exists()
    summary = call(app, run.path, "--to", "vllm", "--distil", "--distil-steps", "3")
    assert summary["out"] == str(run.path / "exports" / "vllm")
    (cost,) = summary["distilled"]
    # Measured on the validation queries, which are the titles of the validation documents.
    assert (cost["set"], cost["queries"]) == ("validation", 6)
    assert f"vllm serve {run.path}/exports/vllm" in summary["serve"]
    student = SentenceTransformer(summary["out"], device="cpu")
    assert pooling_name(student) == "mean"


def test_a_folder_that_needs_no_flag(app: typer.Typer, small_bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = call(app, small_bert, "--to", "tei", "--out", out)
    assert (summary["to"], summary["pooling"], summary["out"]) == ("tei", "mean", str(out))
    vectors = [load(str(folder), device="cpu").encode(TEXTS) for folder in (small_bert, out)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    done = CliRunner().invoke(app, [str(small_bert), "--to", "tei", "--out", str(tmp_path / "b")])
    assert done.stdout.splitlines()[-1] == f"written: {tmp_path / 'b'}"
    assert "docker run" in done.stdout
    with pytest.raises(ConfigError, match="holds files already"):
        CliRunner().invoke(app, [str(small_bert), "--to", "tei", "--out", str(out)], catch_exceptions=False)
    call(app, small_bert, "--to", "tei", "--out", out, "--overwrite")


def test_mistakes(app: typer.Typer, small_bert: Path, run: RunDirectory, tmp_path: Path) -> None:
    def refused(error: type[Exception], message: str, *words: str | Path) -> None:
        with pytest.raises(error, match=message):
            CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    refused(
        ConfigError,
        "--to 'keras': no exporter has this name; there are fastembed",
        small_bert,
        "--to",
        "keras",
    )
    refused(ModelError, "no such model folder", tmp_path / "missing", "--to", "vllm", "--out", tmp_path / "x")
    run.invalidate("results")
    refused(StageOrderError, "multigrain evaluate", run.path, "--to", "vllm")
    done = CliRunner().invoke(app, [str(small_bert), "--to", "vllm", "--out", str(tmp_path / "y"), "--distil"])
    assert done.exit_code == 2
    assert "--texts" in done.output
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "y").exists()
    done = CliRunner().invoke(app, [str(small_bert), "--to", "vllm", "--out", str(tmp_path / "y"), "--int8"])
    assert done.exit_code == 2
    assert "--int8 is for --to onnx" in " ".join(done.output.split())


def test_a_reranker_of_a_run_is_exported_by_its_name(app: typer.Typer, run_of_both: RunDirectory) -> None:
    summary = call(app, run_of_both.path, "--candidate", "reranker", "--to", "onnx", "--int8")
    assert summary["out"] == str(run_of_both.path / "exports" / "reranker-onnx")
    (cost,) = summary["int8"]
    assert (cost["set"], cost["queries"]) == ("validation", 6)
    assert summary["max_difference"] < 1e-5
    taken = open_run(run_of_both.path)
    assert taken is not None
    assert (taken.model, taken.is_reranker) == (run_of_both.model_path, False), "by default the embedder"


def test_which_model_leaves_a_run(app: typer.Typer, run_of_both: RunDirectory, small_bert: Path) -> None:
    with pytest.raises(ConfigError, match=r"--candidate 'rerankr' \(did you mean 'reranker'\?\).*: reranker, other"):
        open_run(run_of_both.path, "rerankr")
    alone: dict[str, object] = {name: {"kind": "reranker"} for name in ("reranker", "other")}
    _put_candidates(run_of_both, alone)
    with pytest.raises(ConfigError, match="tuned rerankers alone: name one with --candidate: reranker or other"):
        open_run(run_of_both.path)
    _put_candidates(run_of_both, {"other": {"kind": "reranker"}})
    taken = open_run(run_of_both.path)
    assert taken is not None
    assert (taken.model, taken.is_reranker) == (run_of_both.candidate_path("other"), True), "never the base"
    done = CliRunner().invoke(app, [str(small_bert), "--to", "onnx", "--candidate", "reranker"])
    assert done.exit_code == 2
    assert "names a model of a run" in " ".join(done.output.split())


def test_a_folder_of_a_reranker_is_told_from_an_embedder(
    app: typer.Typer, run_of_both: RunDirectory, tmp_path: Path
) -> None:
    folder = run_of_both.candidate_path("reranker")
    for form in ("gguf", "static"):
        with pytest.raises(ExportError, match=f"{folder}: is a reranker, and --to {form} is for embedders") as caught:
            CliRunner().invoke(app, [str(folder), "--to", form, "--out", str(tmp_path / "x")], catch_exceptions=False)
        assert "\n" not in str(caught.value)
    done = CliRunner().invoke(app, [str(folder), "--to", "onnx", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"{folder}: a reranker: BertForSequenceClassification" in done.stdout
    assert done.stdout.splitlines()[-1] == f"written: {tmp_path / 'out'}"
