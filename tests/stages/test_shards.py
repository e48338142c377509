"""Runs whose tables are folders of shards: every stage, and whatever reads the finished data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.stages.test_audit import settings
from typer.testing import CliRunner

import multigrain
from multigrain.cli.main import app
from multigrain.config.file import parse_config
from multigrain.dataset.foreign import read_foreign
from multigrain.dataset.store import open_examples, write_examples
from multigrain.errors import RunDirectoryError
from multigrain.export.job import open_run
from multigrain.report import load_report_data, write_report
from multigrain.stages import run, run_stages
from multigrain.stages.labels import apply_labels_file
from multigrain.storage import parquet
from multigrain.storage.rundir import RunDirectory


def _values(corpus: Path, model: Path) -> dict[str, Any]:
    values = settings(corpus, model)
    values["training"] |= {"steps": 3, "batch_size": 4}
    return values | {"evaluation": {"bootstrap_samples": 100, "queries": "titles"}}


@pytest.fixture
def tiny_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 3)
    monkeypatch.setattr(parquet, "_SHARD_ROWS", 7)


def _tables(held: RunDirectory) -> tuple[Path, ...]:
    return held.documents_path, held.rows_path, held.dataset_path


def test_a_run_with_shards_is_the_run_with_files(tmp_path, corpus_file, small_bert, monkeypatch) -> None:
    config = parse_config(_values(corpus_file, small_bert))
    whole = run(config, tmp_path / "whole")
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 3)
    monkeypatch.setattr(parquet, "_SHARD_ROWS", 7)
    sharded = run(config, tmp_path / "sharded")

    assert all(path.is_file() for path in _tables(whole))
    assert all(path.is_dir() and len(list(path.glob("part-*.parquet"))) > 1 for path in _tables(sharded))
    assert tuple(open_examples(sharded.dataset_path)) == tuple(open_examples(whole.dataset_path))
    one, other = load_report_data(whole), load_report_data(sharded)
    assert list(other.rows) == list(one.rows)
    assert other.similarity == one.similarity
    assert other.samples == one.samples
    assert other.drops == one.drops
    assert multigrain.describe(sharded) == multigrain.describe(whole)
    assert open_run(sharded.path).queries == open_run(whole.path).queries  # type: ignore[union-attr]
    assert other.evaluation.sets[0].documents == one.evaluation.sets[0].documents
    assert sharded.report_path.stat().st_size > 10_000


def test_redoing_and_marking_replace_folders_and_files_alike(tmp_path, corpus_file, small_bert, monkeypatch) -> None:
    values = _values(corpus_file, small_bert)
    stages = ["documents", "synthesis", "audit"]
    held = run_stages(parse_config(values), tmp_path / "run", stages)
    before = tuple(open_examples(held.dataset_path))
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 3)
    monkeypatch.setattr(parquet, "_SHARD_ROWS", 7)
    marks = tmp_path / "marks.jsonl"

    marks.write_text(json.dumps([{"id": before[0].id, "mark": "bad"}]), encoding="utf-8")
    apply_labels_file(held.path, marks)
    assert held.dataset_path.is_dir()
    assert tuple(open_examples(held.dataset_path)) == before[1:]
    marks.write_text(json.dumps([{"id": before[1].id, "mark": "bad"}]), encoding="utf-8")
    apply_labels_file(held.path, marks)
    assert held.dataset_path.is_dir()
    assert tuple(open_examples(held.dataset_path)) == before[2:]
    monkeypatch.undo()
    values["audit"]["max_query_words"] = 59
    run_stages(parse_config(values), held.path, stages, redo=True)
    assert held.dataset_path.is_file()
    assert tuple(open_examples(held.dataset_path)) == before[2:]


@pytest.mark.usefixtures("tiny_shards")
def test_a_missing_shard_stops_training_and_report_with_its_name(tmp_path, corpus_file, small_bert) -> None:
    config = parse_config(_values(corpus_file, small_bert))
    held = run(config, tmp_path / "run")
    (held.dataset_path / "part-00001.parquet").unlink()

    for read in (load_report_data, write_report, multigrain.describe):
        with pytest.raises(RunDirectoryError, match=r"graded\.parquet: shard part-00001\.parquet is missing"):
            read(held)
    for each in held.path.glob("models/*/manifest.json"):
        each.unlink()
    with pytest.raises(RunDirectoryError, match=r"part-00001\.parquet is missing: run the stage that wrote it again"):
        run(config, held.path)
    held.invalidate("dataset")
    run(config, held.path)
    assert multigrain.describe(held).rows == len(tuple(open_examples(held.dataset_path)))


@pytest.mark.usefixtures("tiny_shards")
def test_the_dataset_commands_take_folders_of_shards(tmp_path, corpus_file, small_bert) -> None:
    stages = ["documents", "synthesis", "audit"]
    held = run_stages(parse_config(_values(corpus_file, small_bert)), tmp_path / "run", stages)
    rows = tuple(open_examples(held.dataset_path))

    def call(*arguments: object) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return dict(json.loads(done.stdout))

    for source in (held.path, held.dataset_path):
        told = call("dataset", "export", source, "--to", tmp_path / "out.jsonl", "--format", "flagembedding")
        assert told["rows"] == len(rows)
        assert [each.query for each in read_foreign(tmp_path / "out.jsonl")[0]] == [each.query for each in rows]
    told = call(
        "dataset", "convert", held.dataset_path, "--to", tmp_path / "out.csv", "--format", "sentence-transformers"
    )
    assert (told["rows"], told["from"]) == (len(rows), "multigrain")
    call("dataset", "export", held.path, "--to", tmp_path / "copy.parquet", "--format", "multigrain")
    assert tuple(open_examples(tmp_path / "copy.parquet")) == rows
    pushed = call("dataset", "push", held.path, "me/set", "--dry-run")
    shards = sorted((Path(pushed["folder"]) / "data").iterdir())
    count = -(-len(rows) // 7)
    assert [each.name for each in shards] == [f"train-{n:05}-of-{count:05}.parquet" for n in range(count)]
    assert [each.id for shard in shards for each in tuple(open_examples(shard))] == [each.id for each in rows]


@pytest.mark.usefixtures("tiny_shards")
def test_a_training_file_may_be_a_folder_of_shards(tmp_path, corpus_file, small_bert) -> None:
    stages = ["documents", "synthesis", "audit"]
    config = _values(corpus_file, small_bert)
    held = run_stages(parse_config(config), tmp_path / "run", stages)
    settings = tmp_path / "audit.yaml"
    settings.write_text(json.dumps({key: config[key] for key in ("audit", "training")}), encoding="utf-8")
    theirs = tmp_path / "theirs.parquet"
    write_examples(theirs, tuple(open_examples(held.dataset_path)))
    assert theirs.is_dir()

    done = CliRunner().invoke(
        app,
        ["audit", str(theirs), "--config", str(settings), "--run", str(tmp_path / "out"), "--json"],
        catch_exceptions=False,
    )

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["format"] == "multigrain"
    assert json.loads(done.stdout)["kept"] == len(open_examples(RunDirectory(tmp_path / "out").dataset_path)) > 7
