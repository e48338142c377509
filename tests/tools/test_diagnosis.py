"""Causes of a tuning that did not help, found in a run's files, whole or in part."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import ROOT
from tests.report.example_run import ExampleRun, build_run
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.choice import choose_model
from multigrain.evaluation.results import read_results, write_results
from multigrain.evaluation.stored import RESULTS_FILE
from multigrain.evaluation.verdict import conclusions_of
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.causes import CAUSES
from multigrain.tools.diagnosis import Finding, diagnose
from multigrain.training.log import Notice, read_log

PAGE = ROOT / "docs" / "guides" / "tuning-made-it-worse.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return build_run(tmp_path_factory.mktemp("diagnosis") / "run", ExampleRun())


@pytest.fixture
def run(example: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(example.path, tmp_path / "run")))


def _by_name(run: RunDirectory, **options: Any) -> dict[str, Finding]:
    findings = diagnose(run.path, **options).findings
    assert [finding.cause for finding in findings] == [cause.name for cause in CAUSES]
    return {finding.cause: finding for finding in findings}


def _with_notices(run: RunDirectory, *notices: Notice) -> None:
    for path in run.path.glob("models/*/training_log.json"):
        replace(read_log(path), notices=notices).save(path)


def test_page_and_command_go_through_the_same_causes_in_the_same_order() -> None:
    sections = re.split(r"^## \d+\. ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]

    assert [section.splitlines()[0] for section in sections] == [cause.question for cause in CAUSES]
    for cause, section in zip(CAUSES, sections, strict=True):
        assert cause.command.format(run="runs/mine") in section.splitlines()


def test_a_gain_that_is_shown_rules_noise_out(run: RunDirectory) -> None:
    found = _by_name(run)

    results = read_results(run.results_path / RESULTS_FILE)
    delta = results.headline_set.delta[results.chosen]  # type: ignore[union-attr]
    assert found["noise"].status == "ruled out"
    assert found["noise"].figure == delta.mean
    assert found["noise"].command == ""
    assert found["nothing moved"].status == "ruled out"
    assert found["too far"].status == "ruled out"


def test_an_interval_around_zero_is_noise_and_says_how_many_queries_would_tell(tmp_path: Path) -> None:
    found = _by_name(build_run(tmp_path / "run", ExampleRun(gain=0.0, queries=60)))

    assert found["noise"].status == "found"
    assert "contains zero; to be sure within 1 point takes about" in found["noise"].evidence
    assert found["noise"].command == f"multigrain label {tmp_path / 'run'}"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("validation fell", "too far"),
        ("collapsed", "too far"),
        ("weights hardly moved", "nothing moved"),
        ("vectors equal the base's", "nothing moved"),
        ("loss at its floor", "nothing moved"),
    ],
)
def test_what_training_said_is_evidence(run: RunDirectory, name: Any, cause: str) -> None:
    _with_notices(run, Notice(name, warns=True, words="The figures."))
    found = _by_name(run)

    assert found[cause].status == "found"
    assert found[cause].evidence == "The figures."
    assert found[cause].advice
    assert found[cause].command


@pytest.mark.parametrize(
    ("weights", "vectors", "status"),
    [(2.8e-5, 5e-5, "found"), (2.8e-5, 0.01, "found"), (6e-4, 5e-5, "found"), (6e-4, 0.008, "ruled out")],
)
def test_a_tuning_that_moved_next_to_nothing_is_found_whatever_its_log_said_of_it(
    run: RunDirectory, weights: float, vectors: float, status: str
) -> None:
    for path in run.path.glob("models/*/training_log.json"):
        log = read_log(path)
        assert log.curves is not None
        curves = replace(log.curves, kept=replace(log.curves.saved, moved=vectors))
        replace(log, curves=curves, weights_moved=weights, notices=()).save(path)

    found = _by_name(run)["nothing moved"]

    assert (found.status, found.figure) == (status, vectors)


def test_a_probe_that_tells_written_from_mined_is_found(run: RunDirectory) -> None:
    assert _by_name(run)["audit"].status == "found"  # the example's probe warns
    values = json.loads(run.audit_path.read_text())
    run.audit_path.write_text(json.dumps(values | {"probe": None}))
    assert _by_name(run)["audit"].status == "ruled out"
    run.audit_path.write_text(json.dumps(values | {"probe": None, "kept": 60, "written": 200}))
    found = _by_name(run)["audit"]
    assert (found.status, found.figure) == ("found", 0.3)
    run.audit_path.write_text(json.dumps(values | {"probe": None, "kept": 60, "written": 60}))
    found = _by_name(run)["audit"]
    assert (found.status, found.figure) == ("found", 1.0)
    assert found.command == f"multigrain plan {run.path}/config.yaml --run {run.path}"
    assert "queries_per_document" in found.advice


def test_a_base_that_is_nearly_perfect_leaves_nothing_to_gain(run: RunDirectory) -> None:
    assert _by_name(run)["nothing to gain"].status == "ruled out"
    results = read_results(run.results_path / RESULTS_FILE)
    sets = tuple(
        replace(each, models={**each.models, results.base: replace(each.models[results.base], score=0.95)})
        for each in results.sets
    )
    write_results(run.results_path / RESULTS_FILE, replace(results, sets=sets))
    assert _by_name(run)["nothing to gain"].status == "found"


def test_each_stage_that_is_missing_leaves_less_to_tell_and_names_its_command(run: RunDirectory) -> None:
    untold = []
    for folder in ("results", "models", "dataset"):
        shutil.rmtree(run.path / folder)
        found = _by_name(run)
        untold.append({name for name, finding in found.items() if finding.status == "cannot tell"})
        for name in untold[-1]:
            assert found[name].command.startswith("multigrain ")
    assert {"noise", "queries", "nothing to gain", "kinds", "elsewhere"} <= untold[0] < untold[1] < untold[2]
    assert untold[2] == {cause.name for cause in CAUSES}


def test_models_are_loaded_only_where_it_is_asked_for_and_the_files_do_not_tell(run: RunDirectory) -> None:
    asked: list[RunDirectory] = []

    def moved(chosen: RunDirectory, config: Any) -> float:
        asked.append(chosen)
        return 1e-7

    (run.path / "model").mkdir(exist_ok=True)
    assert _by_name(run, moved=moved)["nothing moved"].status == "ruled out"
    assert not asked  # the curves tell
    for path in run.path.glob("models/*/training_log.json"):
        replace(read_log(path), curves=None, notices=()).save(path)
    found = _by_name(run)["nothing moved"]
    assert (found.status, found.command) == ("cannot tell", f"multigrain diagnose {run.path} --load-models")
    found = _by_name(run, moved=moved)["nothing moved"]
    assert (found.status, found.figure) == ("found", 1e-7)
    assert asked


def test_the_command_prints_each_cause_and_json_has_the_same(run: RunDirectory, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["diagnose", str(run.path)])
    assert shown.exit_code == 0, shown.output
    for number, cause in enumerate(CAUSES, start=1):
        assert f"{number}. {cause.question} " in shown.output
    values = json.loads(CliRunner().invoke(app, ["diagnose", str(run.path), "--json"]).stdout)
    assert [each["cause"] for each in values["causes"]] == [cause.name for cause in CAUSES]
    results = read_results(run.results_path / RESULTS_FILE)
    chosen = choose_model(results, conclusions_of(results))
    assert values["choice"] == (str(chosen) if results.rivals else "")
    assert (f"choice: {chosen}" in shown.output) == bool(results.rivals)
    assert values["found"] == sum(each["status"] == "found" for each in values["causes"])

    refused = CliRunner().invoke(app, ["diagnose", str(tmp_path / "nowhere")])
    assert isinstance(refused.exception, RunDirectoryError)
    (run.path / "models" / "tuned_mean" / "training_log.json").write_text("[]")
    refused = CliRunner().invoke(app, ["diagnose", str(run.path)])
    assert isinstance(refused.exception, RunDirectoryError)
