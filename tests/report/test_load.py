from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pyarrow.parquet as pq
import pytest

from multigrain.encoders.served import EmbeddingUsage
from multigrain.errors import EvaluationError, RunDirectoryError, StageOrderError
from multigrain.records import LEVELS
from multigrain.report import load_report_data
from multigrain.report.render import render_report
from multigrain.storage.rundir import RunDirectory


def test_a_run_that_was_not_evaluated_says_which_command_comes_first(tmp_path):
    with pytest.raises(StageOrderError, match="multigrain evaluate"):
        load_report_data(RunDirectory(tmp_path))


def test_figures_are_those_of_the_artifacts(example):
    data = load_report_data(example)
    evaluation = json.loads((example.results_path / "evaluation.json").read_text())
    audit = json.loads(example.audit_path.read_text())
    assert [each.name for each in data.evaluation.sets] == [each["name"] for each in evaluation["sets"]]
    for loaded, written in zip(data.evaluation.sets, evaluation["sets"], strict=True):
        assert {name: scores.score for name, scores in loaded.models.items()} == {
            name: scores["score"] for name, scores in written["models"].items()
        }
        assert loaded.delta.keys() == loaded.models.keys() - {"base"}
        assert loaded.delta["tuned_mean"].low == written["delta"]["tuned_mean"]["low"]
    assert data.audit.kept == audit["kept"]
    assert {drop.reason: drop.rows for drop in data.drops if drop.rows} | {
        f"negative:{drop.reason}": drop.negatives for drop in data.drops if drop.negatives
    } == audit["rejected"]
    for band in data.similarity.bands:
        expected = audit["similarity"][f"level_{band.level}" if band.level else "positive"]
        assert band.p50 == pytest.approx(expected["p50"])
    written = sum(band.written for band in data.similarity.bands)
    assert written == audit["negatives_written"]


def test_wins_and_losses_add_up_to_the_reported_difference(example):
    data = load_report_data(example)
    (moved,) = [each for each in data.changes if each.set == data.evaluation.headline_set.name]
    assert moved.total == data.evaluation.headline_set.queries
    assert moved.wins
    assert moved.losses
    texts = data.excerpts[moved.set]
    assert all(set(win.after.relevant_ids) <= texts.keys() for win in moved.wins)


def test_documents_are_never_looked_up_for_sets_that_are_not_the_run_s_own(example):
    data = load_report_data(example)
    assert "perlfaq" in {each.set for each in data.changes}
    assert "perlfaq" not in data.excerpts


def test_samples_are_rows_of_the_data_set(example):
    table = pq.read_table(example.dataset_path)
    rows = {row["id"]: row for row in table.to_pylist()}
    samples = load_report_data(example).samples
    assert len({sample.id for sample in samples}) == 6
    for sample in samples:
        row = rows[sample.id]
        assert sample.query == row["query"]
        assert [negative.level for negative in sample.negatives] == list(LEVELS)
        assert [negative.text for negative in sample.negatives] == [row[f"negative_{level}"] for level in range(1, 5)]


@pytest.mark.parametrize(
    ("missing", "empty"),
    [
        ("dataset/audit.json", "audit"),
        ("dataset/rejects.parquet", "drops"),
        ("dataset/graded.parquet", "samples"),
        ("dataset/graded.parquet", "similarity"),
        ("synthesis/manifest.json", "synthesis"),
        ("documents/manifest.json", "documents"),
        ("results/anchors.json", "anchors"),
        ("results/per_query.parquet", "changes"),
        ("models", "training"),
    ],
)
def test_a_missing_artifact_leaves_only_its_part_out(own_run, missing, empty):
    path = own_run.path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    data = load_report_data(own_run)
    assert not getattr(data, empty)
    assert data.evaluation.headline_set.queries == 200


def test_a_run_whose_evaluation_is_gone_says_so(own_run):
    (own_run.results_path / "evaluation.json").unlink()
    with pytest.raises(EvaluationError, match=r"evaluation\.json: no evaluation results"):
        load_report_data(own_run)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("results/evaluation.json", "{"),
        ("results/evaluation.json", '{"models": []}'),
        ("results/evaluation.json", '{"models": ["base"], "sets": [3]}'),
        ("results/anchors.json", '[{"text": 5}]'),
        ("dataset/audit.json", '{"kept": "many"}'),
        ("models/tuned_ata/training_log.json", "[]"),
        ("dataset/graded.parquet", "not a table"),
        ("results/per_query.parquet", "not a table"),
        ("config.yaml", b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_artifact_is_named(own_run, path, content):
    raw = content if isinstance(content, bytes) else content.encode()
    (own_run.path / path).write_bytes(raw)
    with pytest.raises((RunDirectoryError, EvaluationError), match=path.rpartition("/")[2].replace(".", r"\.")):
        load_report_data(own_run)


@pytest.mark.parametrize("path", ["dataset/graded.parquet", "dataset/rejects.parquet", "results/per_query.parquet"])
def test_a_missing_column_is_named(own_run, path):
    table = pq.read_table(own_run.path / path)
    pq.write_table(table.drop_columns(["query"]), own_run.path / path)
    with pytest.raises((RunDirectoryError, EvaluationError), match="query"):
        load_report_data(own_run)


def test_an_empty_data_set_is_no_data_set(own_run):
    table = pq.read_table(own_run.dataset_path)
    pq.write_table(table.slice(0, 0), own_run.dataset_path)
    data = load_report_data(own_run)
    assert data.similarity is None
    assert data.samples == ()


def test_credentials_in_addresses_stay_out(own_run):
    secrets = "https://me:hunter2@llm.example/v1", "https://llm.example/v1?api_key=hunter2&x=1"
    own_run.config_path.write_text("llm:\n" + "".join(f"  base_url: {each}\n" for each in secrets))
    config = load_report_data(own_run).reproduction.config
    assert "hunter2" not in config
    assert "llm.example/v1" in config
    assert "x=1" in config


def test_reproduction_installs_from_a_clone_as_the_docs_do(own_run):
    made = load_report_data(own_run).reproduction
    assert made.install == 'pip install ".[local]"'
    assert made.seed == 13
    assert made.seconds == pytest.approx(sum(stage.seconds for stage in made.stages))
    own_run.config_path.write_text("seed: 5\nllm:\n  provider: openai\n")
    assert load_report_data(own_run).reproduction.install == "pip install ."


@pytest.mark.parametrize("config", ["a: [", "just words", ""])
def test_a_config_that_is_no_mapping_is_shown_as_it_is(own_run, config):
    own_run.config_path.write_text(config)
    made = load_report_data(own_run).reproduction
    assert made.config == config
    assert made.seed is None


def test_no_config_is_no_error(own_run):
    own_run.config_path.unlink()
    assert load_report_data(own_run).reproduction.config is None


def test_what_a_base_behind_an_endpoint_has_embedded_is_shown(own_run):
    assert load_report_data(own_run).base_embeddings is None
    assert "Embedded by the base" not in render_report(load_report_data(own_run))
    usage = asdict(EmbeddingUsage(requests=1_200, tokens=45_678))
    for cost, words in ((None, "requests</dd>"), (0.25, "requests, for <b>$0.25</b>")):
        own_run.finish("results", "e5" * 32, {"base_embeddings": {**usage, "cost": cost}}, 61.9)
        page = render_report(load_report_data(own_run))
        assert "<dt>Embedded by the base</dt><dd><b>45,678</b> tokens in 1,200 " + words in page
    own_run.finish("results", "e5" * 32, {"base_embeddings": {"requests": 3}}, 61.9)
    with pytest.raises(RunDirectoryError, match="tokens: Field required"):
        load_report_data(own_run)
