from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import yaml
from tests.encoders.test_encoder import static_model

from multigrain.config.file import load_config
from multigrain.errors import EvaluationError
from multigrain.evaluation.labelling.queries import OpenModels, own_queries, run_queries
from multigrain.evaluation.per_query import QueryRow, write_per_query
from multigrain.evaluation.results import EvaluationResults, SetResult, write_results
from multigrain.records import Document
from multigrain.sources.store import write_document_table
from multigrain.stages.base import RunContext
from multigrain.stages.models import open_models
from multigrain.storage.rundir import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    held = RunDirectory(tmp_path / "run")
    documents = [Document("d1", "cat"), Document("d2", "dog"), Document("d3", "owl")]
    write_document_table(held.documents_path, documents)
    static_model(0).save(str(tmp_path / "base"))
    static_model(1).save(str(held.model_path))
    training = {"base_model": str(tmp_path / "base"), "max_seq_length": None, "candidates": {"best": {}}}
    held.config_path.write_text(yaml.safe_dump({"training": training}))
    rows = [
        QueryRow(name, model, "q1", "a cat?", 1.0, 1.0, 1, (top,), ("d1",))
        for name, top in (("away", "elsewhere"), ("mine", "d1"))
        for model in ("base", "best", "other")
    ]
    write_per_query(held.results_path / "per_query.parquet", rows)
    sets = tuple(SetResult(name, "test", "titles", 1, 3, {}, {}) for name in ("away", "mine"))
    results = EvaluationResults("best", ("base", "best", "other"), sets, 1, 0.95, 1)
    write_results(held.results_path / "evaluation.json", results)
    held.finish("results", "print", {}, 1.0)
    return held


def _models(run: RunDirectory) -> OpenModels:
    return partial(open_models, RunContext(load_config(run.path), run))


def test_the_runs_own_set_is_judged_not_one_from_elsewhere(run: RunDirectory) -> None:
    task = run_queries(run)
    assert task.name == "mine"
    assert set(task.rankings) == {"base", "best"}
    assert task.queries == {"q1": "a cat?"}


def test_own_queries_are_searched_with_both_models(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("cat\n\n  owl \nCAT\n")
    task = own_queries(run, path, _models(run), depth=2)
    assert task.queries == {"q1": "CAT", "q2": "owl"}, "a repeated query is asked once"
    for name in ("base", "best"):
        assert task.rankings[name]["q2"][0] == "d3", "a word is nearest to itself under any weights"
        assert len(task.rankings[name]["q1"]) == 2
    assert (task.name, task.base, task.others) == ("queries-asked", "base", ("best",))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(EvaluationError, match=r"asked\.txt:1: not UTF-8"):
        own_queries(run, path, _models(run), depth=2)


def test_the_base_reads_the_prompts_that_the_run_trained_with(run: RunDirectory, tmp_path: Path) -> None:
    settings = yaml.safe_load(run.config_path.read_text())
    settings["training"]["prompts"] = {"query": "owl owl owl "}
    run.config_path.write_text(yaml.safe_dump(settings))
    path = tmp_path / "asked.txt"
    path.write_text("cat")

    task = own_queries(run, path, _models(run), depth=1)

    assert task.rankings["base"]["q1"][0] == "d3"
